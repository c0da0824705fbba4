// Sign in with a token of the gateway.
import { html, useState, useEffect, useRef } from './html.js';
import { whoAmI, ApiError } from './api.js';
import { begin, ended } from './session.js';
import { useStore } from './store.js';
import { Field, Notice } from './parts.js';

export function SignIn() {
  const why = useStore(ended);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const input = useRef(null);
  useEffect(() => {
    document.title = 'Sign in · crewfleet';
    input.current?.focus();
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    const token = input.current.value.trim();
    if (!token) return setProblem('Paste a token first.');
    setBusy(true);
    setProblem(null);
    try {
      begin(token, await whoAmI(token));
    } catch (error) {
      setProblem(error instanceof ApiError && error.status === 401 ? `The gateway does not know this token. ${error.message}` : error.message);
      setBusy(false);
    }
  };
  return html`<main class="signin">
    <form onSubmit=${submit} autocomplete="off">
      <h1 class="brand"><img src="/ui/icon.svg" alt="" />crewfleet</h1>
      ${why && html`<${Notice} kind="warn"><span role="status">${why}</span><//>`}
      <${Field} label="Token" problem=${problem} hint="It is kept in this tab, until you close it or sign out.">
        ${(of) => html`<input ...${of} ref=${input} type="password" name="token" autocomplete="off" spellcheck="false" />`}
      <//>
      <button class="button first" disabled=${busy}>${busy ? 'Signing in …' : 'Sign in'}</button>
      <p class="faint"><code>crewfleet token create NAME --all-crews --scope read</code> makes one that may only look.</p>
    </form>
  </main>`;
}
