// The frame: who is signed in, where one is, and the page.
import { html, render, useEffect, useState } from './html.js';
import { whoAmI, pause, ApiError } from './api.js';
import { session, kept, begin, end } from './session.js';
import { route, Link } from './router.js';
import { useStore } from './store.js';
import { useAway } from './poll.js';
import { Toasts, Button, Empty } from './parts.js';
import { SignIn } from './signin.js';
import { Fleet } from './fleet.js';
import { Kickoffs } from './kickoffs.js';
import { Kickoff } from './kickoff.js';
import { Start } from './start.js';
import { Errors } from './errors.js';
import { Spend } from './spend.js';

const PAGES = [
  { path: '/', name: 'Fleet', page: Fleet, icon: 'M2 4h12M2 8h12M2 12h7' },
  { path: '/kickoffs', name: 'Kickoffs', page: Kickoffs, icon: 'M3 2.5h10v11H3zM5.5 6h5M5.5 9h5' },
  { path: '/start', name: 'Start', page: Start, icon: 'M4.5 3l8 5-8 5z' },
  { path: '/errors', name: 'Errors', page: Errors, icon: 'M8 2l6.5 11.5h-13zM8 6.5v3.2M8 11.6v.2' },
  { path: '/spend', name: 'Spend', page: Spend, icon: 'M2.5 13.5V9M6.5 13.5V5M10.5 13.5V7.5M14 13.5V2.5' },
];

const Icon = ({ d }) => html`<svg viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d=${d} /></svg>`;

function Side({ at, me }) {
  const isAt = (path) => (path === '/' ? at === '/' : at === path || at.startsWith(`${path}/`));
  const rights = me.scopes.includes('operate') ? null : 'read-only';
  return html`<header class="side">
    <div class="brand"><img src="/ui/icon.svg" alt="" /><span>crewfleet</span></div>
    <nav aria-label="Pages">
      ${PAGES.map(({ path, name, icon }) => html`<${Link} key=${path} to=${path} aria-current=${isAt(path) ? 'page' : undefined}><${Icon} d=${icon} />${name}<//>`)}
    </nav>
    <div class="who">
      <div class="about">
        <div class="clip"><strong>${me.token}</strong>${rights && html` <span class="badge plain">${rights}</span>`}</div>
        <div class="faint clip">${me.tenant ? `tenant ${me.tenant}` : me.crews ? `${me.crews.length} crews` : 'all crews'} · ${me.version}</div>
      </div>
      <${Button} kind="small" onClick=${() => end('You have signed out.')}>Sign out<//>
    </div>
  </header>`;
}

function Page({ at }) {
  const one = /^\/kickoffs\/([^/]+)$/.exec(at);
  if (one) return html`<${Kickoff} key=${one[1]} id=${decodeURIComponent(one[1])} />`;
  const found = PAGES.find(({ path }) => path === at);
  if (found) return html`<${found.page} />`;
  return html`<${Empty} title="There is no such page"><${Link} to="/">Go to the fleet<//><//>`;
}

function Frame({ me }) {
  const { path } = useStore(route);
  const why = useAway();
  useEffect(() => {
    const name = path.startsWith('/kickoffs/') ? decodeURIComponent(path.slice(10)) : PAGES.find((page) => page.path === path)?.name;
    document.title = `${name ?? 'Not found'} · crewfleet`;
  }, [path]);
  return html`<div class="frame">
    <a class="skip" href="#content" onClick=${(event) => (event.preventDefault(), document.getElementById('content').focus())}>Skip to the content</a>
    <${Side} at=${path} me=${me} />
    <main class="main" id="content" tabindex="-1">
      <div role="status" aria-live="polite">${why && html`<div class="banner">${why} Trying again …</div>`}</div>
      <${Page} at=${path} />
    </main>
    <${Toasts} />
  </div>`;
}

// Before a session: the token that the tab has kept is looked at, for as long as nobody answers.
function App() {
  const current = useStore(session);
  const why = useAway();
  const [looking, setLooking] = useState(!!kept());
  useEffect(() => {
    const token = kept();
    if (current || !token) return undefined;
    const stop = new AbortController();
    (async () => {
      while (!stop.signal.aborted) {
        try {
          begin(token, await whoAmI(token));
          break;
        } catch (error) {
          if (error instanceof ApiError && error.status === 401) {
            end(`Your session has ended: ${error.message}`);
            break;
          }
        }
        await pause(2000, stop.signal);
      }
      setLooking(false);
    })();
    return () => stop.abort();
  }, []);
  if (current) return html`<${Frame} me=${current.me} />`;
  if (looking && kept()) return html`<main class="signin"><div role="status">${why ? `${why} Trying again …` : 'Loading …'}</div></main>`;
  return html`<${SignIn} />`;
}

render(html`<${App} />`, document.getElementById('app'));
