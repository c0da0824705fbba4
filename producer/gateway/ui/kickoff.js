// One kickoff: where its time went, what it was given, what it came to, and what can be done about it.
import { html, useState, useEffect, useMemo } from './html.js';
import { get, post } from './api.js';
import { go, Link } from './router.js';
import { may, now } from './session.js';
import { usePoll, useTick } from './poll.js';
import { Badge, Button, Confirm, Copy, Empty, Notice, Problem, doing } from './parts.js';
import { moment, duration, number, isOver, since, plural } from './format.js';
import { useEvents } from './following.js';
import { spansOf } from './spans.js';
import { Waterfall } from './waterfall.js';
import { Waiting } from './waiting.js';
import { Result, Failure, Pre } from './result.js';
import { Chain, Batch } from './related.js';
import { Log } from './log.js';
import { asCurl, asCli } from './copied.js';

// Something that is asked for once, and again when one of `of` changes.
function useOnce(ask, of) {
  const [state, setState] = useState({ data: null, error: null });
  useEffect(() => {
    let current = true;
    ask().then((data) => current && setState({ data, error: null }), (error) => current && setState({ data: null, error }));
    return () => (current = false);
  }, of);
  return state;
}

export function Kickoff({ id }) {
  const path = `/v1/kickoffs/${encodeURIComponent(id)}`;
  const [over, setOver] = useState(false);
  const { data: kickoff, error, refresh } = usePoll((signal) => get(path, null, { signal }), over ? 15000 : 4000, [id, over]);
  useEffect(() => setOver(!!kickoff && isOver(kickoff.status)), [kickoff?.status]);
  if (!kickoff && error) return html`<div class="page"><${Empty} title=${error.status === 404 ? 'There is no such kickoff' : 'It cannot be shown'}>${error.message}<//></div>`;
  if (!kickoff) return html`<div class="page"><${Empty} title="Loading …" /></div>`;
  return html`<${Shown} kickoff=${kickoff} path=${path} refresh=${refresh} error=${error} />`;
}

function Shown({ kickoff, path, refresh, error }) {
  const over = isOver(kickoff.status);
  const { events, said, connection, error: lost } = useEvents(kickoff.kickoff_id, kickoff.redrive, refresh);
  const request = useOnce(() => get(`${path}/request`), [kickoff.kickoff_id]);
  const reply = useOnce(() => (over ? get(`${path}/result`) : Promise.resolve(null)), [kickoff.kickoff_id, over, kickoff.redrive]);
  useTick(over ? 60000 : 1000);
  const end = kickoff.finished_at ? Date.parse(kickoff.finished_at) : now();
  const spans = useMemo(() => spansOf(kickoff, events, end), [events, end, kickoff]);
  const { result } = reply.data ?? {};
  return html`<div class="page">
    <${Head} kickoff=${kickoff} request=${request.data} path=${path} refresh=${refresh} />
    <${Problem} error=${error ?? lost} />
    <${Waiting} kickoff=${kickoff} events=${events} spans=${spans} />
    ${over && kickoff.status !== 'succeeded' && html`<${Failure} reply=${reply.data} kickoff=${kickoff} />`}
    <${Facts} kickoff=${kickoff} spans=${spans} />
    <section class="card" aria-labelledby="time">
      <header><h2 id="time">Where its time went</h2><span class="grow"></span>${!over && html`<span class="faint" role="status">${connection === 'live' ? 'Live' : 'Connecting …'}</span>`}</header>
      <div class="body"><${Waterfall} spans=${spans} /></div>
    </section>
    ${said && html`<section class="card" aria-labelledby="said"><header><h2 id="said">The model says</h2></header><div class="body"><${Pre} label="What the model says">${said.text}<//></div></section>`}
    ${result && html`<${Result} reply=${reply.data} />`}
    ${reply.error && kickoff.status === 'succeeded' && html`<${Notice} kind="warn">${reply.error.message}<//>`}
    <div class="halves">
      <${Inputs} request=${request} />
      <div class="stack">
        ${kickoff.chain && html`<${Chain} kickoff=${kickoff} />`}
        ${typeof kickoff.meta?.batch === 'string' && html`<${Batch} id=${kickoff.meta.batch} />`}
        ${kickoff.meta && html`<section class="card" aria-labelledby="meta"><header><h2 id="meta">Meta</h2></header><div class="body"><${Pre} label="Meta, as JSON">${JSON.stringify(kickoff.meta, null, 2)}<//></div></section>`}
      </div>
    </div>
    <${Log} events=${events} isLive=${!over} />
  </div>`;
}

function Head({ kickoff, request, path, refresh }) {
  const [asking, setAsking] = useState(null);
  const over = isOver(kickoff.status);
  const retry = async () => {
    const next = await doing(() => post(`${path}/retry`), 'It was started once more: this is the new kickoff.');
    if (next) go(`/kickoffs/${next.kickoff_id}`);
  };
  return html`<div class="page-head">
    <h1 class="id"><span class="faint">${kickoff.crew} /</span> <span class="mono">${kickoff.kickoff_id}</span></h1>
    <span role="status"><${Badge} state=${kickoff.status} /></span>
    <span class="grow"></span>
    <${Copy} text=${kickoff.kickoff_id} label="Copy the id">Copy id<//>
    <${Copy} text=${() => asCurl(kickoff, request)} label="Copy as curl">curl<//>
    <${Copy} text=${() => asCli(kickoff, request)} label="Copy as a command of crewfleet">CLI<//>
    ${may('kickoff') && html`<${Link} class="button" to="/start" query=${{ crew: kickoff.crew, from: kickoff.kickoff_id }}>Edit and run again<//>`}
    ${over && may('operate') && html`<${Button} kind=${kickoff.status === 'succeeded' ? '' : 'first'} disabled=${!request} title=${request ? undefined : 'Its inputs are not kept here.'} onClick=${() => setAsking('retry')}>Retry<//>`}
    ${!over && may('operate') && html`<${Button} kind="danger" onClick=${() => setAsking('cancel')}>Cancel<//>`}
    ${asking === 'cancel' && html`<${Confirm} title="Cancel this kickoff?" action="Cancel it" danger onClose=${() => setAsking(null)} onYes=${() => post(`${path}/cancel`).then(refresh)}><p>Its crew is told to stop, and killed when it does not. What follows it in a chain does not start.</p><//>`}
    ${asking === 'retry' && html`<${Confirm} title="Start it once more?" action="Retry" onClose=${() => setAsking(null)} onYes=${retry}><p>A new kickoff has the same inputs, and an id of its own.</p><//>`}
  </div>`;
}

function Facts({ kickoff, spans }) {
  const waited = spans.filter((span) => span.kind === 'queue').reduce((sum, span) => sum + span.end - span.start, 0);
  const ran = kickoff.started_at && (kickoff.finished_at ? Date.parse(kickoff.finished_at) - Date.parse(kickoff.started_at) : isOver(kickoff.status) ? null : since(kickoff.started_at));
  const spent = spans.reduce((sum, span) => sum + (span.kind === 'llm' ? span.tokens : 0), 0);
  const tokens = kickoff.tokens ?? (spent || null);
  const facts = [
    ['Created', moment(kickoff.created_at)],
    ['Started', moment(kickoff.started_at)],
    ['Finished', moment(kickoff.finished_at)],
    ['Waited', duration(waited)],
    ['Ran, last attempt', duration(ran)],
    ['Attempt', `${kickoff.attempt}${kickoff.redrive ? `, after ${plural(kickoff.redrive, 'redrive')}` : ''}`],
    ['Tokens', number(tokens), kickoff.tokens !== null && spent > kickoff.tokens ? `${number(spent)} with attempts that failed` : null],
    ['Worker', kickoff.worker ? html`<${Link} to="/kickoffs" query=${{ worker: kickoff.worker }}>${kickoff.worker}<//>` : '–'],
    ...(kickoff.error ? [['Like it', html`<${Link} to="/kickoffs" query=${{ error: kickoff.error.fingerprint }}>Kickoffs with this error<//>`]] : []),
  ];
  return html`<section class="card" aria-label="Facts"><dl class="facts body">${facts.map(([name, value, more]) => html`<div key=${name}><dt>${name}</dt><dd>${value}${more && html`<div class="faint small">${more}</div>`}</dd></div>`)}</dl></section>`;
}

function Inputs({ request }) {
  const { data, error } = request;
  return html`<section class="card" aria-labelledby="inputs">
    <header><h2 id="inputs">Inputs</h2><span class="grow"></span>${data && html`<${Copy} text=${() => JSON.stringify(data.inputs, null, 2)} label="Copy the inputs" />`}</header>
    <div class="body">
      ${data && Object.keys(data.inputs).length === 0 && html`<p class="quiet">It has none.</p>`}
      ${data && html`<dl class="inputs">${Object.entries(data.inputs).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${typeof value === 'string' ? value : html`<code>${JSON.stringify(value, null, 2)}</code>`}</dd></div>`)}</dl>`}
      ${data?.has_webhooks && html`<p class="faint">It calls webhooks, which are not shown: they may have secrets.</p>`}
      ${error && html`<p class="quiet">${error.message}</p>`}
    </div>
  </section>`;
}
