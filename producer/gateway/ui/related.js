// What a kickoff belongs to: a chain, a batch.
import { html } from './html.js';
import { get } from './api.js';
import { Link } from './router.js';
import { usePoll } from './poll.js';
import { Badge, Notice } from './parts.js';
import { STATES, number, shortId } from './format.js';
import { isId } from './search.js';

export function Chain({ kickoff }) {
  const { id, next, problem, left_out: left } = kickoff.chain;
  const { data } = usePoll((signal) => get('/v1/kickoffs', { chain: id, limit: 200 }, { signal }), 5000, [id]);
  const steps = [...(data?.items ?? [])].sort((a, b) => (a.chain?.step ?? 0) - (b.chain?.step ?? 0));
  return html`<section class="card" aria-labelledby="chain">
    <header><h2 id="chain">Chain</h2><${Link} class="faint" to="/kickoffs" query=${{ chain: id }}>All of it<//></header>
    <div class="body stack">
      <ol class="steps">${steps.map((one) => html`<li key=${one.kickoff_id} aria-current=${one.kickoff_id === kickoff.kickoff_id ? 'step' : undefined}>
        <span class="faint">${one.chain?.step ?? 0}</span> <${Link} to="/kickoffs/${one.kickoff_id}">${one.crew} <span class="mono">${shortId(one.kickoff_id)}</span><//> <${Badge} state=${one.status} />
      </li>`)}</ol>
      ${next && !steps.some((one) => one.kickoff_id === next.kickoff_id) && html`<p class="quiet">${next.crew} follows it.</p>`}
      ${left > 0 && html`<p class="quiet">${left} ${left === 1 ? 'step was' : 'steps were'} left out: meant for another end.</p>`}
      ${problem && html`<${Notice} kind="bad">${problem}<//>`}
    </div>
  </section>`;
}

export function Batch({ id }) {
  const { data } = usePoll((signal) => (isId(id) ? get(`/v1/batches/${id}`, null, { signal }).catch(() => null) : Promise.resolve(null)), 5000, [id]);
  return html`<section class="card" aria-labelledby="batch">
    <header><h2 id="batch">Batch</h2><${Link} class="mono" to="/kickoffs" query=${{ 'meta.batch': id }}>${shortId(id)}<//></header>
    <div class="body">
      ${data ? html`<p>${number(data.ended)} of ${number(data.total ?? data.taken)} have ended.</p>
        <div class="row">${Object.entries(data.by_status).map(([state, count]) => html`<${Link} key=${state} to="/kickoffs" query=${{ 'meta.batch': id, status: state }}><${Badge} state=${state}>${STATES[state]} ${number(count)}<//><//>`)}</div>` : html`<p class="quiet">The list of its kickoffs has what is known of it.</p>`}
    </div>
  </section>`;
}
