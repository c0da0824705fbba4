// What a list is filtered by: state counts, a search, and the rest. The address has all of it.
import { html, useState, useEffect, useRef } from './html.js';
import { get } from './api.js';
import { go } from './router.js';
import { session } from './session.js';
import { useStore } from './store.js';
import { STATES, number } from './format.js';
import { Button, Field, toast } from './parts.js';
import { RANGES, metaOf, statesOf, isId } from './search.js';

const change = (query, changes) => go('/kickoffs', { ...query, ...changes });

export function StateCounts({ query, counts }) {
  const chosen = statesOf(query);
  const shown = (count) => (count >= (counts?.limit ?? Infinity) ? `${number(count)}+` : number(count));
  const toggle = (state) => {
    const states = chosen.includes(state) ? chosen.filter((other) => other !== state) : [...chosen, state];
    change(query, { status: states.join(',') });
  };
  const names = Object.keys(STATES).filter((state) => state !== 'unknown' || counts?.states.unknown || chosen.includes(state));
  return html`<div class="states" role="group" aria-label="States">
    <button type="button" class="state" aria-pressed=${chosen.length ? 'false' : 'true'} onClick=${() => change(query, { status: '' })}>All</button>
    ${names.map((state) => html`<button key=${state} type="button" class="state ${state}" aria-pressed=${chosen.includes(state) ? 'true' : 'false'} onClick=${() => toggle(state)}>
      ${STATES[state]} <b>${counts ? shown(counts.states[state] ?? 0) : '…'}</b>
    </button>`)}
  </div>`;
}

export function Filters({ query }) {
  const me = useStore(session)?.me;
  const [crews, setCrews] = useState([]);
  const [open, setOpen] = useState(false);
  useEffect(() => {
    get('/v1/crews').then((found) => setCrews(found.items.map((crew) => crew.name)), () => {});
  }, []);
  const names = query.crew && !crews.includes(query.crew) ? [query.crew, ...crews] : crews;
  return html`<div class="stack">
    <div class="row filters">
      <${SearchBox} query=${query} fullText=${me?.full_text} />
      <select class="input narrow" aria-label="Crew" value=${query.crew ?? ''} onChange=${(event) => change(query, { crew: event.target.value })}>
        <option value="">All crews</option>
        ${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select>
      <select class="input narrow" aria-label="Time" value=${query.range ?? (query.since || query.until ? 'own' : '')} onChange=${(event) => (event.target.value === 'own' ? setOpen(true) : change(query, { range: event.target.value, since: '', until: '' }))}>
        <option value="">Any time</option>
        ${Object.entries(RANGES).map(([value, name]) => html`<option key=${value} value=${value}>${name}</option>`)}
        <option value="own">From … to …</option>
      </select>
      <${Button} aria-expanded=${open ? 'true' : 'false'} onClick=${() => setOpen(!open)}>More filters<//>
    </div>
    ${open && html`<${More} query=${query} keys=${me?.meta_keys ?? []} />`}
    <${Chips} query=${query} />
  </div>`;
}

function SearchBox({ query, fullText }) {
  const input = useRef(null);
  useEffect(() => {
    if (input.current && document.activeElement !== input.current) input.current.value = query.q ?? '';
  }, [query.q]);
  const submit = async (event) => {
    event.preventDefault();
    const text = input.current.value.trim();
    if (text && isId(text)) {
      const found = await get(`/v1/kickoffs/${encodeURIComponent(text)}`).catch(() => null);
      if (found) return go(`/kickoffs/${text}`);
    }
    if (text && !fullText) return toast(`There is no kickoff with the id ${text}. Words are not searched here: the gateway has [gateway.store] full_text = false.`, 'bad');
    return change(query, { q: text });
  };
  const hint = fullText ? 'Id, or words of inputs and results' : 'Id of a kickoff';
  return html`<form role="search" class="search" onSubmit=${submit}>
    <input ref=${input} class="input" type="search" name="q" aria-label="Search: ${hint}" placeholder=${hint} spellcheck="false" autocomplete="off" onInput=${(event) => event.target.value || !query.q || change(query, { q: '' })} />
  </form>`;
}

function More({ query, keys }) {
  const metas = metaOf(query);
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const changes = { worker: form.get('worker').trim(), error: form.get('error').trim(), chain: form.get('chain').trim(), since: form.get('since'), until: form.get('until') };
    if (changes.since || changes.until) changes.range = '';
    for (const [name] of metas) changes[name] = '';
    if (form.get('value')?.trim()) changes[`meta.${form.get('key')}`] = form.get('value').trim();
    change(query, changes);
  };
  const [key, value] = metas[0] ?? [];
  return html`<form class="card more" onSubmit=${submit} key=${JSON.stringify(query)}>
    <${Field} label="From">${(of) => html`<input ...${of} type="datetime-local" step="1" name="since" defaultValue=${local(query.since)} />`}<//>
    <${Field} label="To">${(of) => html`<input ...${of} type="datetime-local" step="1" name="until" defaultValue=${local(query.until)} />`}<//>
    <${Field} label="Worker">${(of) => html`<input ...${of} name="worker" defaultValue=${query.worker ?? ''} />`}<//>
    <${Field} label="Fingerprint of the error">${(of) => html`<input ...${of} name="error" defaultValue=${query.error ?? ''} />`}<//>
    <${Field} label="Chain: id of its first kickoff">${(of) => html`<input ...${of} name="chain" defaultValue=${query.chain ?? ''} />`}<//>
    <${Field} label="Key of meta">${(of) => html`<select ...${of} name="key">${keys.map((name) => html`<option key=${name} value=${name} selected=${`meta.${name}` === key}>${name}</option>`)}</select>`}<//>
    <${Field} label="Its value">${(of) => html`<input ...${of} name="value" defaultValue=${value ?? ''} />`}<//>
    <div class="row end"><button class="button first">Apply</button></div>
  </form>`;
}

// As a field of a form has it: in the reader's own time.
function local(text) {
  const date = new Date(text ?? '');
  if (Number.isNaN(date.getTime())) return '';
  return new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

function Chips({ query }) {
  const names = { worker: 'Worker', error: 'Error', chain: 'Chain', q: 'Words', since: 'From', until: 'To' };
  const chips = Object.entries(query).filter(([name, value]) => value && (names[name] || name.startsWith('meta.')));
  if (!chips.length) return null;
  return html`<div class="row">
    ${chips.map(([name, value]) => html`<button key=${name} type="button" class="chip" aria-label="Leave out ${names[name] ?? name}: ${value}" onClick=${() => change(query, { [name]: '' })}>
      <span>${names[name] ?? name}: ${value}</span><span aria-hidden="true">×</span>
    </button>`)}
    <${Button} kind="small plain" onClick=${() => go('/kickoffs', { status: query.status })}>Clear<//>
  </div>`;
}
