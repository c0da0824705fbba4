// The columns of the list of kickoffs; which are shown, the reader chooses for this browser.
import { html } from './html.js';
import { store } from './store.js';
import { Link } from './router.js';
import { Badge } from './parts.js';
import { time, moment, duration, number, shortId, since, isOver, plural } from './format.js';

const KEY = 'crewfleet.columns';

const ran = (kickoff) => {
  if (!kickoff.started_at) return null;
  return kickoff.finished_at ? Date.parse(kickoff.finished_at) - Date.parse(kickoff.started_at) : isOver(kickoff.status) ? null : since(kickoff.started_at);
};
const text = (value) => (value === undefined || value === null ? '–' : typeof value === 'object' ? JSON.stringify(value) : String(value));

export const COLUMNS = [
  { key: 'id', name: 'Kickoff', cell: (one) => html`<${Link} to="/kickoffs/${one.kickoff_id}" class="mono" title=${one.kickoff_id}>${shortId(one.kickoff_id)}<//>` },
  { key: 'status', name: 'State', cell: (one) => html`<${Badge} state=${one.status} />` },
  { key: 'crew', name: 'Crew', cell: (one) => one.crew },
  { key: 'created', name: 'Created', cell: (one) => html`<span title=${moment(one.created_at)}>${time(one.created_at)}</span>` },
  { key: 'ran', name: 'Ran', num: true, cell: (one) => duration(ran(one)) },
  { key: 'error', name: 'Error', cell: (one) => one.error && html`<span class=${one.status === 'cancelled' ? 'quiet' : 'late'} title=${one.error.message}>${one.error.message}</span>` },
  { key: 'tokens', name: 'Tokens', num: true, cell: (one) => number(one.tokens) },
  { key: 'attempt', name: 'Attempt', num: true, cell: (one) => (one.redrive ? `${one.attempt}, ${plural(one.redrive, 'redrive')}` : one.attempt) },
  { key: 'worker', name: 'Worker', cell: (one) => one.worker ?? '–' },
  { key: 'tenant', name: 'Tenant', cell: (one) => text(one.meta?.tenant) },
  { key: 'batch', name: 'Batch', cell: (one) => text(one.meta?.batch) },
  { key: 'meta', name: 'Meta', cell: (one) => (one.meta ? html`<code title=${JSON.stringify(one.meta)}>${JSON.stringify(one.meta)}</code>` : '–') },
  { key: 'finished', name: 'Finished', cell: (one) => html`<span title=${moment(one.finished_at)}>${time(one.finished_at)}</span>` },
];
const USUAL = ['id', 'status', 'crew', 'created', 'ran', 'error', 'tokens'];

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY));
    if (Array.isArray(kept)) return kept;
  } catch {
    // It is none of ours.
  }
  return USUAL;
}

export const chosen = store(read());

export function choose(key, shown) {
  const next = shown ? [...chosen.get(), key] : chosen.get().filter((other) => other !== key);
  localStorage.setItem(KEY, JSON.stringify(next));
  chosen.set(next);
}
