// Cancel or retry all that a filter finds: first it is counted, then done page by page, as long as the dialog is open.
import { html, useState, useEffect, useRef } from './html.js';
import { post } from './api.js';
import { number, plural, STATES } from './format.js';
import { Button, Dialog, Problem, Notice } from './parts.js';
import { statesOf, bulkFilter } from './search.js';

const ACTIONS = {
  cancel: { name: 'Cancel', done: 'cancelled', states: ['queued', 'running', 'unknown'], also: [] },
  retry: { name: 'Retry', done: 'started once more', states: ['failed', 'timed_out', 'expired', 'rejected'], also: ['succeeded', 'cancelled'] },
};
const PAGE = 100;

// The states that an action is for, among those that are filtered by.
export function statesFor(action, query) {
  const { states, also } = ACTIONS[action];
  const chosen = statesOf(query);
  return chosen.length ? chosen.filter((state) => states.includes(state) || also.includes(state)) : states;
}

export function Bulk({ action, query, onClose }) {
  const { name, done: doneWord } = ACTIONS[action];
  const [body] = useState(() => ({ action, filter: bulkFilter(query, statesFor(action, query)) }));
  const [preview, setPreview] = useState(null);
  const [error, setError] = useState(null);
  const [state, setState] = useState(null);
  const stopped = useRef(false);
  useEffect(() => {
    post('/v1/kickoffs/bulk', { ...body, dry_run: true }).then(setPreview, setError);
    return () => (stopped.current = true);
  }, []);
  const run = async () => {
    const total = { done: 0, failed: [], all: preview.matched, running: true };
    setState({ ...total });
    try {
      for (let cursor; ; ) {
        const answer = await post('/v1/kickoffs/bulk', { ...body, limit: PAGE, ...(cursor ? { cursor } : {}) }, { headers: { 'Idempotency-Key': sweep.current } });
        total.done += answer.done;
        total.failed = [...total.failed, ...answer.failed];
        total.all = Math.max(total.all, total.done + total.failed.length);
        cursor = answer.next_cursor;
        if (answer.detail) throw new Error(answer.detail);
        if (!cursor || stopped.current) break;
        setState({ ...total });
      }
    } catch (failed) {
      setError(failed);
    }
    setState({ ...total, running: false });
  };
  const sweep = useRef(crypto.getRandomValues(new Uint32Array(4)).join('-'));
  const handled = state ? state.done + state.failed.length : 0;
  const many = preview && `${preview.matched_at_least ? 'More than ' : ''}${plural(preview.matched, 'kickoff')}`;
  return html`<${Dialog} title="${name} all that the filter finds" onClose=${onClose}>
    ${!preview && !error && html`<p role="status">Counting …</p>`}
    ${preview && !state && html`<p role="status"><strong>${many}</strong> would be ${doneWord}: those that are ${words(body.filter.status)}${query.crew ? ` of ${query.crew}` : ''}.</p>`}
    ${preview && !state && action === 'retry' && html`<p class="quiet">Each becomes a new kickoff with an id of its own. Kickoffs that came over AMQP have no inputs here, and cannot be retried so.</p>`}
    ${state && html`<div class="stack">
      <div class="progress" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax=${state.all} aria-valuenow=${handled}><div style=${{ width: `${state.all ? (handled / state.all) * 100 : 100}%` }}></div></div>
      <p role="status">${number(state.done)} ${doneWord}${state.failed.length ? `, ${number(state.failed.length)} could not be` : ''}${state.running ? ` of ${number(state.all)} …` : '. Done.'}</p>
      ${state.failed.length > 0 && html`<details><summary>Those that could not be</summary><ul class="failures">${state.failed.slice(0, 100).map((one) => html`<li key=${one.kickoff_id}><code>${one.kickoff_id}</code> ${one.detail}</li>`)}</ul></details>`}
    </div>`}
    <${Problem} error=${error} />
    ${preview && preview.matched === 0 && html`<${Notice}>There is nothing to do.<//>`}
    <div class="row end">
      ${state?.running ? html`<${Button} onClick=${() => (stopped.current = true)}>Stop<//>` : html`<${Button} onClick=${onClose}>${state ? 'Close' : 'Back'}<//>`}
      ${!state && html`<${Button} kind=${action === 'cancel' ? 'danger' : 'first'} disabled=${!preview?.matched} onClick=${run}>${name} ${preview ? number(preview.matched) : ''}<//>`}
    </div>
  <//>`;
}

const words = (states) => states.map((state) => STATES[state].toLowerCase()).join(', ');
