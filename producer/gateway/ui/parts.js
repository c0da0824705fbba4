// Parts that pages are made of.
import { html, useEffect, useRef, useState, useId } from './html.js';
import { store, useStore } from './store.js';
import { STATES } from './format.js';
import { copyText } from './clipboard.js';

export const Badge = ({ state, children }) => html`<span class="badge ${state}">${children ?? STATES[state] ?? state}</span>`;

export function Button({ kind = '', busy, disabled, children, ...rest }) {
  return html`<button type="button" class="button ${kind}" disabled=${busy || disabled} ...${rest}>${children}</button>`;
}

// A field with its label; `children` gets the ids that tie them together.
export function Field({ label, hint, problem, children }) {
  const id = useId();
  const told = problem || hint ? `${id}-told` : undefined;
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children({ id, class: 'input', 'aria-describedby': told, 'aria-invalid': problem ? 'true' : undefined })}
    ${(problem || hint) && html`<div id=${told} class=${problem ? 'problem' : 'faint'}>${problem || hint}</div>`}
  </div>`;
}

export function Gauge({ used, of, label }) {
  const share = of ? Math.min(used / of, 1) : 0;
  return html`<div class="gauge" role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax=${of} aria-valuenow=${Math.min(used, of)} aria-valuetext="${used} of ${of}">
    <span aria-hidden="true">${used} <span class="faint">/ ${of}</span></span>
    <div class="track"><div class="fill ${share >= 1 ? 'full' : ''}" style=${{ width: `${share * 100}%` }}></div></div>
  </div>`;
}

export const Empty = ({ title, children }) => html`<div class="empty"><strong>${title}</strong>${children && html`<div>${children}</div>`}</div>`;
export const Notice = ({ kind = '', children }) => html`<div class="notice ${kind}" role=${kind === 'bad' ? 'alert' : undefined}>${children}</div>`;
export const Problem = ({ error }) => error && html`<${Notice} kind="bad">${error.message}<//>`;

export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.isConnected && before.focus();
  }, []);
  const onCancel = (event) => (event.preventDefault(), onClose());
  return html`<dialog ref=${dialog} aria-labelledby=${id} onCancel=${onCancel}>
    <div class="inside"><h2 id=${id}>${title}</h2>${children}</div>
  </dialog>`;
}

// Asks before something is done that cannot be taken back.
export function Confirm({ title, action, danger, onYes, onClose, children }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const yes = async () => {
    setBusy(true);
    setError(null);
    try {
      await onYes();
      onClose();
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <div>${children}</div>
    <${Problem} error=${error} />
    <div class="row end">
      <${Button} onClick=${onClose}>Back<//>
      <${Button} kind=${danger ? 'danger' : 'first'} busy=${busy} onClick=${yes}>${action}<//>
    </div>
  <//>`;
}

const toasts = store([]);
let nextToast = 1;
export function toast(text, kind = '') {
  const one = { id: nextToast++, text, kind };
  toasts.set([...toasts.get().slice(-3), one]);
  setTimeout(() => toasts.set(toasts.get().filter((other) => other.id !== one.id)), kind === 'bad' ? 9000 : 5000);
}
// Does something, and says how it went.
export async function doing(does, done) {
  try {
    const answer = await does();
    if (done) toast(typeof done === 'function' ? done(answer) : done);
    return answer;
  } catch (error) {
    toast(error.message, 'bad');
    return null;
  }
}
export function Toasts() {
  const all = useStore(toasts);
  return html`<div class="toasts" role="status" aria-live="polite">${all.map((one) => html`<div key=${one.id} class="toast ${one.kind}">${one.text}</div>`)}</div>`;
}

export function Tabs({ label, tabs, chosen, onChoose, children }) {
  const id = useId();
  const list = useRef(null);
  const names = Object.keys(tabs);
  const onKey = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = (names.indexOf(chosen) + step + names.length) % names.length;
    onChoose(names[next]);
    list.current.children[next].focus();
  };
  return html`<div class="stack">
    <div class="tabs" role="tablist" aria-label=${label} ref=${list} onKeyDown=${onKey}>
      ${names.map((name) => html`<button key=${name} type="button" role="tab" id="${id}-${name}" aria-selected=${name === chosen ? 'true' : 'false'} aria-controls="${id}-panel" tabindex=${name === chosen ? 0 : -1} onClick=${() => onChoose(name)}>${tabs[name]}</button>`)}
    </div>
    <div role="tabpanel" id="${id}-panel" aria-labelledby="${id}-${chosen}">${children}</div>
  </div>`;
}

export function Copy({ text, label, children }) {
  const copy = async () => toast((await copyText(typeof text === 'function' ? text() : text)) ? 'Copied.' : 'The browser does not let us copy.');
  return html`<${Button} kind="small" aria-label=${label} onClick=${copy}>${children ?? 'Copy'}<//>`;
}

// A button with a list that opens below it.
export function Menu({ label, children }) {
  const [open, setOpen] = useState(false);
  const whole = useRef(null);
  useEffect(() => {
    if (!open) return undefined;
    const away = (event) => whole.current?.contains(event.target) || setOpen(false);
    const key = (event) => event.key === 'Escape' && (setOpen(false), whole.current?.querySelector('button')?.focus());
    document.addEventListener('pointerdown', away);
    document.addEventListener('keydown', key);
    return () => (document.removeEventListener('pointerdown', away), document.removeEventListener('keydown', key));
  }, [open]);
  return html`<div class="menu" ref=${whole}>
    <${Button} aria-expanded=${open ? 'true' : 'false'} onClick=${() => setOpen(!open)}>${label}<//>
    ${open && html`<div class="list">${children}</div>`}
  </div>`;
}
