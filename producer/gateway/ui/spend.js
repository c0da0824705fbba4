// Tokens: who spends them, and which of them in vain.
import { html } from './html.js';
import { get } from './api.js';
import { route, go, Link } from './router.js';
import { useStore } from './store.js';
import { usePoll } from './poll.js';
import { compact, number, percent } from './format.js';
import { Empty, Notice, Problem } from './parts.js';
import { TimeChart } from './charts.js';

const WINDOWS = { '1h': '1 hour', '24h': '24 hours', '7d': '7 days', '30d': '30 days' };
const BY = { crews: 'Crew', models: 'Model', tenants: 'Tenant' };

// What a day is made of changes slowly.
const EVERY = { '1h': 15000, '24h': 60000, '7d': 60000, '30d': 60000 };

const wasted = (of) => of.failed + of.retried + of.cancelled;

function Change({ now, before }) {
  if (!before) return html`<span class="faint">${now ? 'nothing before' : ''}</span>`;
  const share = (now - before) / before;
  const text = `${share > 0 ? '+' : share < 0 ? '−' : '±'}${percent(Math.abs(share))}`;
  return html`<span class=${share > 0.2 ? 'late' : 'quiet'} title="${number(before)} in the window before">${text}</span>`;
}

export function Spend() {
  const { query } = useStore(route);
  const window = WINDOWS[query.window] ? query.window : '24h';
  const by = BY[query.by] ? query.by : 'crews';
  const change = (changes) => go('/spend', { ...query, ...changes });
  const { data, error } = usePoll((signal) => get('/v1/spend', { window }, { signal }), EVERY[window], [window]);
  return html`<div class="page">
    <div class="page-head"><h1>Spend</h1><span class="grow"></span>
      <div class="tabs" role="group" aria-label="Window">${Object.entries(WINDOWS).map(([value, name]) => html`<button key=${value} type="button" class="pick" aria-pressed=${value === window ? 'true' : 'false'} onClick=${() => change({ window: value })}>${name}</button>`)}</div>
    </div>
    <${Problem} error=${error} />
    ${data && html`<${Totals} data=${data} window=${window} /><${Chart} data=${data} by=${by} change=${change} window=${window} /><${Groups} data=${data} by=${by} />`}
    ${!data && !error && html`<${Empty} title="Loading …" />`}
  </div>`;
}

function Totals({ data, window }) {
  const { now, before } = data;
  const share = now.tokens ? wasted(now) / now.tokens : null;
  const tiles = [
    ['Tokens', now.tokens, before.tokens],
    ['Wasted', wasted(now), wasted(before), share === null ? '' : `${percent(share)} of all`],
    ['… failed', now.failed, before.failed],
    ['… retried', now.retried, before.retried],
    ['… cancelled', now.cancelled, before.cancelled],
    ['Model calls', now.calls, before.calls],
  ];
  return html`<dl class="tiles" aria-label="The last ${WINDOWS[window]}">${tiles.map(([name, value, was, more]) => html`<div key=${name} class="card tile"><dt>${name}</dt><dd><strong title=${number(value)}>${compact(value)}</strong> <${Change} now=${value} before=${was} />${more && html`<div class="faint small">${more}</div>`}</dd></div>`)}</dl>`;
}

const nameOf = (by, name) => name || { models: 'not told', tenants: 'no tenant', crews: '–' }[by];

function Chart({ data, by, change, window }) {
  const start = Date.parse(data.since) / 1000;
  const times = data.series.map((_, place) => start + place * data.step_s);
  const groups = data[by].filter((group) => group.series?.some((tokens) => tokens)).slice(0, 7);
  const rest = data.series.map((all, place) => all - groups.reduce((sum, group) => sum + group.series[place], 0));
  const series = groups.map((group) => ({ name: nameOf(by, group.name), values: group.series }));
  if (rest.some((value) => value > 0)) series.push({ name: 'others', values: rest });
  const isEmpty = data.now.tokens === 0;
  return html`<section class="card" aria-labelledby="over-time">
    <header><h2 id="over-time">Tokens over time</h2><span class="grow"></span>
      <div class="tabs" role="group" aria-label="By">${Object.entries(BY).map(([value, name]) => html`<button key=${value} type="button" class="pick" aria-pressed=${value === by ? 'true' : 'false'} onClick=${() => change({ by: value })}>By ${name.toLowerCase()}</button>`)}</div>
    </header>
    <div class="body">
      ${isEmpty ? html`<${Empty} title="No tokens in the last ${WINDOWS[window]}">They are counted where crews tell of them.<//>` : html`<${TimeChart} times=${times} series=${series} label="Tokens of the last ${WINDOWS[window]} by ${BY[by].toLowerCase()}; the table below has the sums" />`}
    </div>
  </section>`;
}

function Groups({ data, by }) {
  const groups = data[by].filter((group) => group.name || group.now.tokens || group.before.tokens);
  const untold = by === 'models' && groups.find((group) => !group.name)?.now.tokens > 0;
  const linkOf = { crews: (name) => ({ crew: name }), tenants: (name) => ({ 'meta.tenant': name }) }[by];
  if (!groups.length) return null;
  return html`<section class="card" aria-label="Tokens by ${BY[by].toLowerCase()}">
    <div class="scroll" tabindex="0" role="region" aria-label="Tokens, a table"><table>
      <thead><tr><th scope="col">${BY[by]}</th><th scope="col" class="num">Tokens</th><th scope="col" class="num">Share</th><th scope="col" class="num">Before</th><th scope="col" class="num">Change</th><th scope="col" class="num">Failed</th><th scope="col" class="num">Retried</th><th scope="col" class="num">Cancelled</th><th scope="col" class="num">Wasted</th><th scope="col" class="num">Calls</th></tr></thead>
      <tbody>${groups.map(({ name, now, before }) => html`<tr key=${name}>
        <th scope="row" class="name">${name && linkOf ? html`<${Link} to="/kickoffs" query=${linkOf(name)}>${name}<//>` : html`<span class=${name ? '' : 'faint'}>${nameOf(by, name)}</span>`}</th>
        <td class="num">${number(now.tokens)}</td><td class="num">${percent(data.now.tokens ? now.tokens / data.now.tokens : null)}</td>
        <td class="num faint">${number(before.tokens)}</td><td class="num"><${Change} now=${now.tokens} before=${before.tokens} /></td>
        <td class="num">${number(now.failed)}</td><td class="num">${number(now.retried)}</td><td class="num">${number(now.cancelled)}</td>
        <td class="num ${wasted(now) > now.tokens * 0.2 && wasted(now) ? 'late' : ''}">${percent(now.tokens ? wasted(now) / now.tokens : null)}</td><td class="num">${number(now.calls)}</td>
      </tr>`)}</tbody>
    </table></div>
    ${untold && html`<div class="body"><${Notice}>Some crews tell how many tokens they took, and not of which model: crews without events, programs that send no <code>llm_call_completed</code>, and what ended before this gateway counted.<//></div>`}
  </section>`;
}
