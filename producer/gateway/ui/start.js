// Start a kickoff: a form of the inputs that the crew asks for.
import { html, useState, useEffect } from './html.js';
import { get, post } from './api.js';
import { route, go } from './router.js';
import { useStore } from './store.js';
import { may } from './session.js';
import { Field, Empty, Notice, Problem } from './parts.js';
import { fieldsOf, written, read } from './schema.js';

export function Start() {
  const { query } = useStore(route);
  const [crews, setCrews] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    get('/v1/crews').then((found) => setCrews(found.items), setError);
  }, []);
  if (!may('kickoff')) return html`<div class="page"><h1>Start a kickoff</h1><${Notice}>Your token may only look: it lacks the scope kickoff.<//></div>`;
  const crew = crews?.find((one) => one.name === query.crew);
  return html`<div class="page narrow">
    <h1>${query.from ? 'Edit and run again' : 'Start a kickoff'}</h1>
    <${Problem} error=${error} />
    ${crews?.length === 0 && html`<${Empty} title="No crew yet">Start a worker first.<//>`}
    ${crews?.length > 0 && html`<${Field} label="Crew">${(of) => html`<select ...${of} value=${query.crew ?? ''} onChange=${(event) => go('/start', { crew: event.target.value })}>
      <option value="">Choose one …</option>
      ${crews.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}${one.workers.length ? '' : ' (no worker)'}</option>`)}
    </select>`}<//>`}
    ${crew && html`<${Form} key=${`${crew.name}/${query.from ?? ''}`} crew=${crew} from=${query.from} />`}
    ${crews && query.crew && !crew && html`<${Notice} kind="bad">There is no crew ${query.crew}.<//>`}
  </div>`;
}

function Form({ crew, from }) {
  const fields = fieldsOf(crew);
  const [values, setValues] = useState(() => Object.fromEntries(fields.map((field) => [field.name, written(field, field.fallback)])));
  const [rest, setRest] = useState('');
  const [more, setMore] = useState({ meta: '', timeout: '' });
  const [problems, setProblems] = useState({});
  const [error, setError] = useState(null);
  const [note, setNote] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (!from) return;
    const path = `/v1/kickoffs/${encodeURIComponent(from)}`;
    Promise.all([get(`${path}/request`), get(path)]).then(([request, kickoff]) => {
      const { inputs } = request;
      setValues(Object.fromEntries(fields.map((field) => [field.name, written(field, inputs[field.name])])));
      const others = Object.fromEntries(Object.entries(inputs).filter(([name]) => !fields.some((field) => field.name === name)));
      setRest(Object.keys(others).length ? JSON.stringify(others, null, 2) : '');
      setMore({ meta: kickoff.meta ? JSON.stringify(kickoff.meta, null, 2) : '', timeout: request.timeout_s ? String(request.timeout_s) : '' });
      if (request.has_webhooks || request.then) setNote('Webhooks and following steps are not carried over to what you edit; a retry does that.');
    }, setError);
  }, [from]);
  const submit = async (event) => {
    event.preventDefault();
    const [found, inputs] = [{}, {}];
    for (const field of fields) {
      const { value, problem } = read(field, values[field.name]);
      if (problem) found[field.name] = problem;
      else if (value !== undefined) inputs[field.name] = value;
    }
    const others = object(rest, 'rest', found);
    const meta = object(more.meta, 'meta', found);
    if (more.timeout && !(Number(more.timeout) > 0)) found.timeout = 'It must be seconds, more than 0.';
    setProblems(found);
    if (Object.keys(found).length) return document.querySelector('[aria-invalid="true"]')?.focus();
    setBusy(true);
    setError(null);
    try {
      const body = { crew: crew.name, inputs: { ...others, ...inputs }, ...(meta ? { meta } : {}), ...(more.timeout ? { timeout_s: Number(more.timeout) } : {}) };
      const kickoff = await post('/v1/kickoffs', body);
      go(`/kickoffs/${kickoff.kickoff_id}`);
    } catch (failed) {
      const missing = failed.problem?.missing_inputs ?? [];
      setProblems(Object.fromEntries(missing.map((name) => [name, 'It is needed.'])));
      setError(failed);
      setBusy(false);
    }
    return null;
  };
  const set = (name) => (event) => setValues({ ...values, [name]: event.target.value });
  useEffect(() => {
    if (Object.keys(problems).length) document.querySelector('[aria-invalid="true"]')?.focus();
  }, [problems]);
  return html`<form class="card" onSubmit=${submit} novalidate>
    <div class="body stack roomy">
      ${crew.paused && html`<${Notice} kind="warn">${crew.name} is paused: what you start waits.<//>`}
      ${!crew.workers.length && html`<${Notice} kind="warn">No worker serves ${crew.name} at present: what you start waits for one.<//>`}
      ${crew.inputs === null && fields.length === 0 && html`<p class="quiet">No worker tells which inputs ${crew.name} asks for. Write them as JSON.</p>`}
      ${note && html`<${Notice}>${note}<//>`}
      ${fields.map((field) => html`<${Field} key=${field.name} label=${label(field)} hint=${field.description} problem=${problems[field.name]}>${(of) => input(field, values[field.name] ?? '', set(field.name), of)}<//>`)}
      <details open=${fields.length === 0 || !!rest || !!problems.rest}><summary>Other inputs, as JSON</summary>
        <${Field} label="A JSON object" problem=${problems.rest}>${(of) => html`<textarea ...${of} class="input mono" rows="4" spellcheck="false" value=${rest} onInput=${(event) => setRest(event.target.value)}></textarea>`}<//>
      </details>
      <details open=${!!more.meta || !!more.timeout || !!problems.meta || !!problems.timeout}><summary>Meta and time limit</summary><div class="stack">
        <${Field} label="Meta, a JSON object" hint="It comes back in the reply and in every event." problem=${problems.meta}>${(of) => html`<textarea ...${of} class="input mono" rows="3" spellcheck="false" value=${more.meta} onInput=${(event) => setMore({ ...more, meta: event.target.value })}></textarea>`}<//>
        <${Field} label="Time limit in seconds" hint=${crew.limits.timeout_s ? `The crew has ${crew.limits.timeout_s} s; you may lower that.` : undefined} problem=${problems.timeout}>${(of) => html`<input ...${of} inputmode="decimal" value=${more.timeout} onInput=${(event) => setMore({ ...more, timeout: event.target.value })} />`}<//>
      </div></details>
      <${Problem} error=${error} />
      <div class="row end"><button class="button first" disabled=${busy}>${busy ? 'Starting …' : 'Start'}</button></div>
    </div>
  </form>`;
}

const label = (field) => html`${field.title}${field.title !== field.name && html` <code class="faint">${field.name}</code>`}${field.required && html` <span class="late" aria-hidden="true">*</span><span class="visually-hidden"> (needed)</span>`}`;

function input(field, value, onInput, of) {
  const needed = field.required ? 'true' : undefined;
  if (field.kind === 'choice' || field.kind === 'truth') {
    const options = field.kind === 'truth' ? [true, false] : field.options;
    return html`<select ...${of} aria-required=${needed} name=${field.name} value=${value} onChange=${onInput}>
      <option value="">–</option>
      ${options.map((one) => html`<option key=${String(one)} value=${JSON.stringify(one)}>${field.kind === 'truth' ? (one ? 'yes' : 'no') : String(one)}</option>`)}
    </select>`;
  }
  if (field.kind === 'number') return html`<input ...${of} aria-required=${needed} name=${field.name} inputmode="decimal" value=${value} onInput=${onInput} />`;
  const rows = field.kind === 'json' ? 2 : Math.min(value.split('\n').length, 12);
  return html`<textarea ...${of} class="input ${field.kind === 'json' ? 'mono' : ''}" aria-required=${needed} name=${field.name} rows=${rows} spellcheck="false" value=${value} onInput=${onInput}></textarea>`;
}

function object(text, name, problems) {
  if (!text.trim()) return null;
  try {
    const value = JSON.parse(text);
    if (value && typeof value === 'object' && !Array.isArray(value)) return value;
    problems[name] = 'It must be a JSON object, as in {"name": "value"}.';
  } catch (error) {
    problems[name] = `It is no JSON: ${error.message}`;
  }
  return null;
}
