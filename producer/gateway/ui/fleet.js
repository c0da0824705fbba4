// The fleet: its crews and workers as they are, and how they do.
import { html, useState } from './html.js';
import { get, post } from './api.js';
import { route, go, Link } from './router.js';
import { useStore } from './store.js';
import { usePoll } from './poll.js';
import { mayForAll } from './session.js';
import { number, compact, percent, duration, ago, since, briefly, plural, bytes } from './format.js';
import { Badge, Button, Gauge, Empty, Problem, Confirm, doing } from './parts.js';
import { Sparkline } from './charts.js';

const WINDOWS = { '5m': '5 minutes', '1h': '1 hour', '24h': '24 hours' };

export function Fleet() {
  const { query } = useStore(route);
  const window = WINDOWS[query.window] ? query.window : '5m';
  const { data, error, refresh } = usePoll(
    async (signal) => {
      const [crews, workers, stats] = await Promise.all([get('/v1/crews', null, { signal }), get('/v1/workers', null, { signal }), get('/v1/stats', { window }, { signal })]);
      return { crews: crews.items, workers: workers.items, stats };
    },
    4000,
    [window],
  );
  return html`<div class="page">
    <div class="page-head">
      <h1>Fleet</h1>
      <span class="grow"></span>
      <label class="row quiet">Figures of the last
        <select class="input narrow" value=${window} onChange=${(event) => go('/', { window: event.target.value === '5m' ? '' : event.target.value })}>
          ${Object.entries(WINDOWS).map(([value, name]) => html`<option key=${value} value=${value}>${name}</option>`)}
        </select>
      </label>
    </div>
    <${Problem} error=${error} />
    ${data && html`<${Summary} ...${data} /><${Crews} ...${data} window=${window} refresh=${refresh} /><${Workers} ...${data} refresh=${refresh} />`}
    ${!data && !error && html`<${Empty} title="Loading …" />`}
  </div>`;
}

function Summary({ crews, workers, stats }) {
  const sum = (items, of) => items.reduce((all, item) => all + (of(item) ?? 0), 0);
  const slots = sum(crews, (crew) => crew.limits.concurrency);
  const [used, waiting] = [sum(crews, (crew) => crew.in_flight), sum(crews, (crew) => crew.queue?.messages)];
  const draining = workers.filter((worker) => worker.draining).length;
  const facts = [
    ['Workers', number(workers.length), draining ? `${draining} draining` : 'all take kickoffs'],
    ['Running', number(used), `of ${compact(slots)} slots`],
    ['Waiting', number(waiting), waiting ? 'in queues' : 'nothing waits'],
    ['Tokens a minute', compact(sum(stats.crews, (crew) => crew.tokens_per_minute)), 'all crews'],
  ];
  return html`<dl class="tiles">${facts.map(([name, value, more]) => html`<div key=${name} class="card tile"><dt>${name}</dt><dd><strong>${value}</strong> <span class="faint">${more}</span></dd></div>`)}</dl>`;
}

function Crews({ crews, stats, window, refresh }) {
  const of = Object.fromEntries(stats.crews.map((one) => [one.crew, one]));
  const steered = Object.fromEntries(stats.steered.filter((one) => one.kind === 'crew').map((one) => [one.name, one]));
  return html`<section class="card" aria-labelledby="crews">
    <header><h2 id="crews">Crews</h2><span class="faint">${crews.length}</span></header>
    ${crews.length === 0 && html`<${Empty} title="No crew yet">Start a worker: it says which crews it serves.<//>`}
    ${crews.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="Crews, a table"><table class="fleet">
      <thead><tr>
        <th scope="col">Crew</th><th scope="col">In use</th><th scope="col">Ended, last ${WINDOWS[window]}</th>
        <th scope="col" class="num">Queue</th><th scope="col" class="num">Oldest waits</th>
        <th scope="col" class="num">p50</th><th scope="col" class="num">p95</th>
        <th scope="col" class="num">Failed</th><th scope="col" class="num">Tokens / min</th><th scope="col"><span class="visually-hidden">Actions</span></th>
      </tr></thead>
      <tbody>${crews.map((crew) => html`<${Crew} key=${crew.name} crew=${crew} stats=${of[crew.name]} steered=${steered[crew.name]} refresh=${refresh} />`)}</tbody>
    </table></div>`}
  </section>`;
}

function Crew({ crew, stats, steered, refresh }) {
  const [asking, setAsking] = useState(false);
  const ended = stats?.ended ?? [0, 0];
  const all = ended.reduce((sum, one) => sum + one, 0);
  const oldest = crew.oldest_queued_at && since(crew.oldest_queued_at);
  const isServed = crew.workers.length > 0;
  const act = (action, done) => doing(() => post(`/v1/crews/${crew.name}/${action}`), done).then(refresh);
  return html`<tr data-crew=${crew.name}>
    <th scope="row" class="name">
      <${Link} to="/kickoffs" query=${{ crew: crew.name }}>${crew.name}<//>
      <div class="row tight">
        ${crew.paused && html`<${Badge} state="warn">Paused<//>`}
        ${!isServed && html`<${Badge} state="bad">No worker<//>`}
        ${crew.troubles.length > 0 && html`<span title=${crew.troubles.map((one) => `${one.worker}: ${one.trouble}`).join('\n')}><${Badge} state="bad">${plural(crew.troubles.length, 'trouble')}<//></span>`}
        ${crew.paused && html`<span class="faint small">${steered?.action === 'pause' ? `by ${steered.token}, ${ago(steered.at)}` : 'by the command or another gateway'}</span>`}
        ${!crew.paused && steered?.action === 'resume' && since(steered.at) < 600000 && html`<span class="faint small">resumed by ${steered.token}, ${ago(steered.at)}</span>`}
      </div>
    </th>
    <td><${Gauge} used=${crew.in_flight} of=${crew.limits.concurrency} label="Slots in use of ${crew.name}" /></td>
    <td><div class="row tight"><${Sparkline} values=${ended} bad=${stats?.failed} label="${plural(all, 'kickoff')} of ${crew.name} ended" /><span class="faint">${compact(all)}</span></div></td>
    <td class="num">${number(crew.queue?.messages)}</td>
    <td class="num ${oldest > 60000 ? 'late' : ''}">${oldest === null ? '–' : briefly(oldest)}</td>
    <td class="num">${duration(stats?.p50_ms)}</td>
    <td class="num">${duration(stats?.p95_ms)}</td>
    <td class="num ${stats?.failure_share > 0.1 ? 'late' : ''}">${percent(stats?.failure_share)}</td>
    <td class="num">${stats?.tokens ? compact(stats.tokens_per_minute) : '–'}</td>
    <td class="num">
      ${mayForAll('operate') && isServed && (crew.paused
        ? html`<${Button} kind="small" aria-label="Resume ${crew.name}" onClick=${() => act('resume', `The workers are told to resume ${crew.name}.`)}>Resume<//>`
        : html`<${Button} kind="small" aria-label="Pause ${crew.name}" onClick=${() => setAsking(true)}>Pause<//>`)}
      ${asking && html`<${Confirm} title="Pause ${crew.name}?" action="Pause" onClose=${() => setAsking(false)} onYes=${() => post(`/v1/crews/${crew.name}/pause`).then(refresh)}>
        <p>No worker starts a kickoff of it until somebody resumes it. Those that run go on, those that come wait.</p>
      <//>`}
    </td>
  </tr>`;
}

function Workers({ workers, stats, refresh }) {
  const steered = Object.fromEntries(stats.steered.filter((one) => one.kind === 'worker').map((one) => [one.name, one]));
  return html`<section class="card" aria-labelledby="workers">
    <header><h2 id="workers">Workers</h2><span class="faint">${workers.length}</span></header>
    ${workers.length === 0 && html`<${Empty} title="No worker lives">Kickoffs wait in their queues until one starts.<//>`}
    ${workers.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="Workers, a table"><table>
      <thead><tr>
        <th scope="col">Worker</th><th scope="col">State</th><th scope="col">Slots in use</th><th scope="col">Crews</th>
        <th scope="col" class="num">Memory</th><th scope="col">Version</th><th scope="col" class="num">Up for</th><th scope="col" class="num">Heard</th><th scope="col"><span class="visually-hidden">Actions</span></th>
      </tr></thead>
      <tbody>${workers.map((worker) => html`<${Worker} key=${worker.id} worker=${worker} steered=${steered[worker.id]} refresh=${refresh} />`)}</tbody>
    </table></div>`}
  </section>`;
}

function Worker({ worker, steered, refresh }) {
  const [asking, setAsking] = useState(false);
  const used = worker.crews.reduce((sum, crew) => sum + crew.in_flight, 0);
  const slots = worker.crews.reduce((sum, crew) => sum + crew.concurrency, 0);
  const troubles = worker.crews.filter((crew) => crew.trouble);
  return html`<tr data-worker=${worker.id}>
    <th scope="row" class="name"><${Link} to="/kickoffs" query=${{ worker: worker.id }}>${worker.id}<//><div class="faint small">${worker.host}</div></th>
    <td>
      ${worker.draining ? html`<${Badge} state="warn">Draining<//>` : html`<${Badge} state="ok">Takes kickoffs<//>`}
      ${worker.draining && html`<div class="faint small">${steered ? `by ${steered.token}, ${ago(steered.at)}` : 'by the command, its owner or another gateway'}</div>`}
      ${troubles.length > 0 && html`<div class="late small">${troubles.map((crew) => `${crew.name}: ${crew.trouble}`).join('; ')}</div>`}
    </td>
    <td><${Gauge} used=${used} of=${slots} label="Slots in use of ${worker.id}" /></td>
    <td class="crews">${worker.crews.map((crew) => crew.name).join(', ')}</td>
    <td class="num" title=${worker.memory_limit_bytes ? `Its crews may hold ${bytes(worker.memory_limit_bytes)}` : undefined}>${bytes(worker.memory_bytes)}</td>
    <td>${worker.version}</td>
    <td class="num">${briefly(since(worker.started_at))}</td>
    <td class="num">${ago(worker.heard_at)}</td>
    <td class="num">
      ${mayForAll('admin') && !worker.draining && html`<${Button} kind="small" aria-label="Drain ${worker.id}" onClick=${() => setAsking(true)}>Drain<//>`}
      ${asking && html`<${Confirm} title="Drain ${worker.id}?" action="Drain" danger onClose=${() => setAsking(false)} onYes=${() => post(`/v1/workers/${encodeURIComponent(worker.id)}/drain`).then(refresh)}>
        <p>It takes no more kickoffs, finishes what it runs within its grace, and ends. Its supervisor may start it again.</p>
      <//>`}
    </td>
  </tr>`;
}
