// Dead letters: those that died alike together, and what can be done about them.
import { html, useState, useRef } from './html.js';
import { get, post } from './api.js';
import { route, go, Link } from './router.js';
import { useStore } from './store.js';
import { usePoll } from './poll.js';
import { may, now } from './session.js';
import { ago, moment, number, plural } from './format.js';
import { Badge, Button, Dialog, Empty, Field, Notice, Problem, toast } from './parts.js';
import { Bars } from './charts.js';

const HOURS = 24;
const EVERY = 15000;

export function Errors() {
  const { query } = useStore(route);
  const looked = useRef(null);
  const { data, error, refresh } = usePoll(
    async (signal) => {
      const of = { crew: query.crew, reason: query.reason };
      // One after the other: one at a time sees a queue.
      const grouped = await get('/v1/dead-letters', { ...of, group: true }, { signal });
      const key = JSON.stringify([of, grouped.seen]);
      // Each look reads the queues from their beginnings: not without need.
      if (looked.current?.key !== key) {
        const { items, matched } = await get('/v1/dead-letters', { ...of, limit: 1000 }, { signal });
        looked.current = { key, letters: items, matched };
      }
      return { ...grouped, ...looked.current };
    },
    EVERY,
    [query.crew, query.reason],
  );
  const groups = [...(data?.groups ?? [])].sort((a, b) => b.count - a.count);
  return html`<div class="page">
    <div class="page-head"><h1>Errors</h1>${data && html`<span class="faint" role="status">${plural(groups.reduce((sum, group) => sum + group.count, 0), 'dead letter')}</span>`}<span class="grow"></span>
      ${(query.crew || query.reason) && html`<${Button} onClick=${() => go('/errors')}>Show all<//>`}
    </div>
    <p class="quiet">Requests that could not be done, kept until somebody runs them again or throws them away. Those that died alike are one row.</p>
    ${!data && html`<${Problem} error=${error} />`}
    ${data?.unseen > 0 && html`<${Notice} kind="warn">${number(data.unseen)} letters were not looked at: a call looks at 20,000. Choose a crew, or use <code>crewfleet dead-letters</code>.<//>`}
    ${data && groups.length === 0 && html`<div class="card"><${Empty} title="No dead letter">What failed for good is here.<//></div>`}
    ${groups.length > 0 && html`<section class="card" aria-label="Groups of dead letters"><div class="scroll" tabindex="0" role="region" aria-label="Dead letters, a table"><table>
      <thead><tr><th scope="col">Error</th><th scope="col">Crew</th><th scope="col">Reason</th><th scope="col" class="num">Letters</th><th scope="col">Last ${HOURS} hours</th><th scope="col" class="num">First seen</th><th scope="col" class="num">Last seen</th><th scope="col"><span class="visually-hidden">Actions</span></th></tr></thead>
      <tbody>${groups.map((group) => html`<${Group} key=${`${group.crew}/${group.reason}/${group.fingerprint}`} group=${group} letters=${data.letters} isPart=${data.matched > data.letters.length} refresh=${refresh} />`)}</tbody>
    </table></div></section>`}
    ${!data && !error && html`<${Empty} title="Looking at the dead letters …" />`}
  </div>`;
}

const isOf = (group) => (letter) => letter.crew === group.crew && letter.reason === group.reason && (letter.fingerprint ?? null) === (group.fingerprint ?? null);

function Group({ group, letters, isPart, refresh }) {
  const [asking, setAsking] = useState(null);
  const trend = Array(HOURS).fill(0);
  for (const letter of letters.filter(isOf(group))) {
    const back = Math.floor((now() - Date.parse(letter.dead_at)) / 3600e3);
    if (back >= 0 && back < HOURS) trend[HOURS - 1 - back] += 1;
  }
  const shown = `${isPart ? 'of the newest 1,000 letters: ' : ''}${plural(trend.reduce((a, b) => a + b, 0), 'letter')} in ${HOURS} hours`;
  return html`<tr data-fingerprint=${group.fingerprint ?? ''}>
    <th scope="row" class="name wrap">
      <div class="error-line">${group.error ?? 'RabbitMQ took them off their queue'}</div>
      <div class="row tight small">
        ${group.fingerprint && html`<${Link} to="/kickoffs" query=${{ error: group.fingerprint }}>Kickoffs with this error<//>`}
        ${group.example && html`<${Link} to="/kickoffs/${group.example}">An example<//>`}
        ${group.redrives > 0 && html`<span class="faint">redriven ${plural(group.redrives, 'time')} already</span>`}
      </div>
    </th>
    <td><${Link} to="/errors" query=${{ crew: group.crew }}>${group.crew}<//></td>
    <td><${Badge} state="bad">${group.reason}<//></td>
    <td class="num">${number(group.count)}</td>
    <td title=${shown}><${Bars} values=${trend} label=${shown} /></td>
    <td class="num" title=${moment(group.oldest_at)}>${ago(group.oldest_at)}</td>
    <td class="num" title=${moment(group.newest_at)}>${ago(group.newest_at)}</td>
    <td class="num nowrap">
      ${may('operate') && html`<${Button} kind="small" aria-label="Redrive ${group.count} of ${group.crew}" onClick=${() => setAsking('redrive')}>Redrive<//>`} ${' '}
      ${may('admin') && html`<${Button} kind="small danger" aria-label="Purge ${group.count} of ${group.crew}" onClick=${() => setAsking('purge')}>Purge<//>`}
      ${asking && html`<${Act} action=${asking} group=${group} onClose=${() => (setAsking(null), refresh())} />`}
    </td>
  </tr>`;
}

const selection = (group) => Object.fromEntries(Object.entries({ crew: group.crew, reason: group.reason, fingerprint: group.fingerprint }).filter(([, value]) => value));

// First it is only said what would be; then it is done, call after call, until nothing remains.
function Act({ action, group, onClose }) {
  const [rate, setRate] = useState('');
  const [preview, setPreview] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(null);
  const isRedrive = action === 'redrive';
  const of = isRedrive ? 'redriven' : 'purged';
  const send = (dry_run) => post(`/v1/dead-letters/${action}`, { ...selection(group), dry_run, ...(isRedrive && rate ? { rate_per_s: Number(rate) } : {}) });
  const look = async () => {
    setError(null);
    setBusy('Looking …');
    await send(true).then(setPreview, setError);
    setBusy(null);
  };
  const run = async () => {
    setError(null);
    let done = 0;
    let kept = 0;
    try {
      for (;;) {
        setBusy(`${number(done)} ${of} …`);
        const answer = await send(false);
        done += answer[of];
        kept = (answer.failed?.length ?? 0) + (answer.guarded ?? 0);
        if (!answer.remaining || !answer[of]) break;
      }
      toast(`${plural(done, 'letter')} ${of}.${kept ? ` ${plural(kept, 'letter')} kept: refused, or redriven 5 times already.` : ''}`);
      onClose();
    } catch (failed) {
      setError(failed);
      setBusy(null);
    }
  };
  const meant = preview && (preview[of] ?? 0);
  return html`<${Dialog} title="${isRedrive ? 'Redrive' : 'Purge'} letters of ${group.crew}" onClose=${onClose}>
    <p class="error-line">${group.error ?? group.reason}</p>
    <p class="quiet">${isRedrive ? 'They run again, under their own ids, with their own inputs.' : 'They are thrown away, and cannot be run again.'}</p>
    ${isRedrive && html`<${Field} label="At most so many a second" hint="Left empty: as fast as RabbitMQ takes them.">${(props) => html`<input ...${props} inputmode="decimal" value=${rate} onInput=${(event) => setRate(event.target.value)} />`}<//>`}
    ${preview && html`<${Notice}><span role="status">${plural(meant, 'letter')} would be ${of}${preview.guarded ? `; ${plural(preview.guarded, 'letter')} would be kept, since they were redriven 5 times` : ''}${preview.copies ? `; ${plural(preview.copies, 'copy', 'copies')} would be removed` : ''}.</span><//>`}
    <${Problem} error=${error} />
    ${busy && html`<p role="status">${busy}</p>`}
    <div class="row end">
      <${Button} disabled=${!!busy} onClick=${onClose}>Back<//>
      <${Button} disabled=${!!busy} onClick=${look}>Dry run<//>
      <${Button} kind=${isRedrive ? 'first' : 'danger'} disabled=${!!busy} onClick=${run}>${isRedrive ? 'Redrive' : 'Purge'}<//>
    </div>
  <//>`;
}
