// What a kickoff came to: its text, as Markdown, JSON and files; or why it failed.
import { html, useState } from './html.js';
import { ask } from './api.js';
import { bytes, number, STATES } from './format.js';
import { Tabs, Copy, Button, doing, Notice } from './parts.js';
import { Markdown } from './markdown.js';

const pretty = (value) => JSON.stringify(value, null, 2);

export function Result({ reply }) {
  const [tab, setTab] = useState(null);
  const { result } = reply;
  const hasJson = result.json !== null && result.json !== undefined;
  const tabs = { markdown: 'Markdown', text: 'Text', ...(hasJson ? { json: 'JSON' } : {}), ...(result.tasks?.length > 0 ? { tasks: `Tasks ${result.tasks.length}` } : {}), ...(result.files?.length ? { files: `Files ${result.files.length}` } : {}), whole: 'Whole reply' };
  const shown = tabs[tab] ? tab : result.raw ? 'markdown' : hasJson ? 'json' : 'markdown';
  const copied = { json: () => pretty(result.json), whole: () => pretty(reply), tasks: () => pretty(result.tasks) }[shown] ?? (() => result.raw);
  return html`<section class="card" aria-labelledby="result">
    <header><h2 id="result">Result</h2><span class="grow"></span>${shown !== 'files' && html`<${Copy} text=${copied} label="Copy the result" />`}</header>
    <div class="body"><${Tabs} label="The result as" tabs=${tabs} chosen=${shown} onChoose=${setTab}>
      ${shown === 'markdown' && (result.raw ? html`<${Markdown} text=${result.raw} />` : html`<p class="quiet">It has no text.</p>`)}
      ${shown === 'text' && html`<${Pre}>${result.raw}<//>`}
      ${shown === 'json' && html`<${Pre}>${pretty(result.json)}<//>`}
      ${shown === 'whole' && html`<${Pre}>${pretty(reply)}<//>`}
      ${shown === 'tasks' && html`<div class="stack">${result.tasks.map((task, place) => html`<details key=${place} open=${place === result.tasks.length - 1}><summary>${task.name ?? `Task ${place + 1}`}${task.agent && html` <span class="faint">by ${task.agent}</span>`}</summary><${Pre}>${task.raw ?? 'It is the text of the result.'}<//></details>`)}</div>`}
      ${shown === 'files' && html`<${Files} reply=${reply} />`}
    <//></div>
  </section>`;
}

export const Pre = ({ children, label }) => html`<pre class="code" tabindex="0" role="region" aria-label=${label ?? 'Text'}>${children}</pre>`;

function Files({ reply }) {
  const { files, files_left_out: left, files_until: until } = reply.result;
  const path = (file) => `/crews/${reply.crew}/files/${encodeURIComponent(reply.kickoff_id)}/${file.path.split('/').map(encodeURIComponent).join('/')}`;
  const save = (file) =>
    doing(async () => {
      const blob = await (await ask(path(file))).blob();
      const link = document.createElement('a');
      link.href = URL.createObjectURL(blob);
      link.download = file.path.split('/').pop();
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  return html`<div class="stack">
    <ul class="files">${files.map((file) => html`<li key=${file.path} class="row">
      <code>${file.path}</code> <span class="faint">${bytes(file.bytes)}</span>
      ${file.error ? html`<span class="late">${file.error}</span>` : html`<${Button} kind="small" aria-label="Save ${file.path}" onClick=${() => save(file)}>Save<//>`}
      ${file.encoding === 'utf-8' && html`<details class="wide"><summary>Show</summary><${Pre}>${file.content}<//></details>`}
    </li>`)}</ul>
    ${left && html`<p class="quiet">${number(left.count)} further files (${bytes(left.bytes)}) are not kept.</p>`}
    ${until && html`<p class="faint">Its worker keeps them until ${new Date(until).toLocaleString('en-GB')}.</p>`}
  </div>`;
}

// Where an error's detail has a traceback, whatever runs the crew.
function traceOf(detail) {
  if (!detail || typeof detail !== 'object') return null;
  const found = detail.traceback ?? detail.stacktrace ?? detail.stack;
  return Array.isArray(found) ? found.join('') : typeof found === 'string' ? found : null;
}

export function Failure({ reply, kickoff }) {
  const error = reply?.error ?? kickoff.error;
  if (!error) return null;
  const trace = traceOf(error.detail);
  const facts = error.detail && typeof error.detail === 'object' ? Object.entries(error.detail).filter(([name, value]) => value !== null && !['traceback', 'stacktrace', 'stack'].includes(name)) : [];
  return html`<section class="card failure" aria-labelledby="failure">
    <header><h2 id="failure">${STATES[kickoff.status]}: <span class="late">${error.kind}</span></h2><span class="grow"></span><${Copy} text=${() => `${error.kind}: ${error.message}\n${trace ?? ''}`} label="Copy the error" /></header>
    <div class="body stack">
      <p class="message">${error.message}</p>
      ${error.retryable !== undefined && html`<p class="quiet">${error.retryable ? 'Another attempt might have succeeded: attempts were used up.' : 'By the rules of its crew no other attempt would help.'}</p>`}
      ${facts.length > 0 && html`<dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${typeof value === 'object' ? JSON.stringify(value) : String(value)}</dd></div>`)}</dl>`}
      ${trace && html`<div class="stack"><h3>Traceback</h3><${Pre} label="Traceback">${trace}<//></div>`}
      ${!reply && html`<${Notice}>Its reply is kept no longer: this is the first line of its error.<//>`}
    </div>
  </section>`;
}
