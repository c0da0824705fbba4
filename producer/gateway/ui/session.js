// Who reads the dashboard: the token, for as long as the tab is open, and what it is good for.
import { store } from './store.js';

const KEY = 'crewfleet.token';

// { token, me } of a session; null before one, with `ended` in words where one has ended.
export const session = store(null);
export const ended = store(null);

export const kept = () => sessionStorage.getItem(KEY);

export function begin(token, me) {
  sessionStorage.setItem(KEY, token);
  ended.set(null);
  session.set({ token, me });
}

export function end(why) {
  sessionStorage.removeItem(KEY);
  ended.set(why ?? null);
  session.set(null);
}

export const may = (scope) => session.get()?.me.scopes.includes(scope) ?? false;
// Pausing and draining is for all tenants.
export const mayForAll = (scope) => may(scope) && !session.get()?.me.tenant;
// By so much the gateway's clock is ahead of ours, in milliseconds.
export const skew = store(0);
export const now = () => Date.now() + skew.get();
