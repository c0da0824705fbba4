// The list of kickoffs: what is filtered by is the address.
import { html, useState, useEffect, useRef, useMemo } from './html.js';
import { get } from './api.js';
import { route, go } from './router.js';
import { useStore } from './store.js';
import { usePoll } from './poll.js';
import { may } from './session.js';
import { Button, Empty, Menu, Problem } from './parts.js';
import { VirtualTable } from './table.js';
import { COLUMNS, chosen, choose } from './columns.js';
import { Filters, StateCounts } from './filters.js';
import { Bulk, statesFor } from './bulk.js';
import { parameters, isBeyondBulk } from './search.js';

const PAGE = 100;
const EVERY = 4000;

const byTime = (a, b) => (a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : a.kickoff_id < b.kickoff_id ? 1 : -1);

// Puts a page into what is known. What was there in its time and is not any more has left the filter.
function merged(known, page, isFirst) {
  const last = page.items[page.items.length - 1]?.created_at;
  const first = isFirst ? '9' : page.items[0]?.created_at;
  const kept = known.filter((one) => {
    if (!page.items.length) return !isFirst;
    const isLaterPage = page.next_cursor && one.created_at < last;
    return isLaterPage || one.created_at > first || one.created_at === last || one.created_at === first;
  });
  const found = new Map(kept.map((one) => [one.kickoff_id, one]));
  for (const one of page.items) found.set(one.kickoff_id, one);
  return [...found.values()].sort(byTime);
}

function useList(query) {
  const key = JSON.stringify(query);
  const [state, setState] = useState({ key, rows: [], cursors: [null], next: null });
  const seen = useRef({ page: 0, loading: false });
  const load = async (cursor, signal) => get('/v1/kickoffs', { ...parameters(query), limit: PAGE, cursor }, { signal });
  const take = (page, isFirst) =>
    setState((before) => {
      const now = before.key === key ? before : { key, rows: [], cursors: [null], next: null };
      const isEnd = !now.rows.length || !isFirst;
      return { ...now, rows: merged(now.rows, page, isFirst), next: isEnd && now.cursors.length === 1 ? page.next_cursor : now.next, loaded: true };
    });
  const polled = usePoll(
    async (signal) => {
      take(await load(null, signal), true);
      const cursor = state.key === key ? state.cursors[seen.current.page] : null;
      if (cursor) take(await load(cursor, signal), false);
      return true;
    },
    EVERY,
    [key],
  );
  const more = async () => {
    if (seen.current.loading || !state.next || state.key !== key) return;
    seen.current.loading = true;
    try {
      const page = await load(state.next);
      setState((before) => (before.key === key ? { ...before, rows: merged(before.rows, page, false), cursors: [...before.cursors, before.next], next: page.next_cursor } : before));
    } catch {
      // The next scrolling tries again.
    }
    seen.current.loading = false;
  };
  const onSeen = (first, last) => {
    seen.current.page = Math.floor(first / PAGE);
    if (last > state.rows.length - 80) more();
  };
  const isCurrent = state.key === key && state.loaded;
  return { rows: isCurrent ? state.rows : [], isLoaded: isCurrent, hasMore: isCurrent && !!state.next, error: polled.error, refresh: polled.refresh, onSeen };
}

export function Kickoffs() {
  const { query } = useStore(route);
  const shown = useStore(chosen);
  const [bulk, setBulk] = useState(null);
  const list = useList(query);
  const counted = usePoll((signal) => get('/v1/counts', parameters(query, { withStates: false }), { signal }), 2 * EVERY, [JSON.stringify(parameters(query, { withStates: false }))]);
  const columns = useMemo(() => COLUMNS.filter(({ key }) => shown.includes(key)), [shown]);
  useEffect(() => setBulk(null), [JSON.stringify(query)]);
  const beyond = isBeyondBulk(query);
  const offers = (action) => may('operate') && statesFor(action, query).length > 0;
  const closed = () => (setBulk(null), list.refresh(), counted.refresh());
  return html`<div class="page">
    <div class="page-head">
      <h1>Kickoffs</h1>
      <span class="grow"></span>
      ${offers('cancel') && html`<${Button} disabled=${!!beyond} title=${beyond ? `What is found by ${beyond} cannot be cancelled at once.` : undefined} onClick=${() => setBulk('cancel')}>Cancel all …<//>`}
      ${offers('retry') && html`<${Button} disabled=${!!beyond} title=${beyond ? `What is found by ${beyond} cannot be retried at once.` : undefined} onClick=${() => setBulk('retry')}>Retry all …<//>`}
      <${Menu} label="Columns">
        ${COLUMNS.map(({ key, name }) => html`<label key=${key}><input type="checkbox" checked=${shown.includes(key)} disabled=${key === 'id'} onChange=${(event) => choose(key, event.target.checked)} />${name}</label>`)}
      <//>
    </div>
    <${StateCounts} query=${query} counts=${counted.data} />
    <${Filters} query=${query} />
    <${Problem} error=${list.error ?? counted.error} />
    <div class="card">
      ${list.rows.length > 0 && html`<${VirtualTable} label="Kickoffs, a table" columns=${columns} rows=${list.rows} keyOf=${(one) => one.kickoff_id} onSeen=${list.onSeen} onOpen=${(one) => go(`/kickoffs/${one.kickoff_id}`)} />`}
      ${list.isLoaded && !list.rows.length && html`<${Empty} title="No kickoff is like that">${Object.keys(query).length ? 'Choose another filter, or clear it.' : 'Start one, and it is here at once.'}<//>`}
      ${!list.isLoaded && !list.error && html`<${Empty} title="Loading …" />`}
    </div>
    <p class="faint" role="status">${list.isLoaded ? `${list.rows.length} shown${list.hasMore ? '; scroll for more' : ''}` : ''}</p>
    ${bulk && html`<${Bulk} action=${bulk} query=${query} onClose=${closed} />`}
  </div>`;
}
