// The address is the state of a page: its path says which page, its query what it shows.
import { html } from './html.js';
import { store } from './store.js';

const BASE = '/ui';

const read = () => ({
  path: location.pathname.slice(BASE.length).replace(/\/+$/, '') || '/',
  query: Object.fromEntries(new URLSearchParams(location.search)),
});

export const route = store(read());
addEventListener('popstate', () => route.set(read()));

export function address(path, pairs = {}) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(pairs)) {
    if (value !== undefined && value !== null && value !== '') params.set(name, value);
  }
  const text = params.toString();
  return BASE + (path === '/' ? '' : path) + (text ? `?${text}` : '');
}

export function go(path, pairs, { replace = false } = {}) {
  const to = address(path, pairs);
  if (to === location.pathname + location.search) return;
  history[replace ? 'replaceState' : 'pushState'](null, '', to);
  const before = route.get().path;
  route.set(read());
  if (before !== route.get().path) scrollTo(0, 0);
}

// A link that opens in place, unless it is asked to open elsewhere.
export function Link({ to, query, children, ...rest }) {
  const open = (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(to, query);
  };
  return html`<a href=${address(to, query)} onClick=${open} ...${rest}>${children}</a>`;
}
