// Calls of the native API. What comes is kept by no cache of the browser.
import { session, end, skew } from './session.js';
import { store } from './store.js';

// Whether the gateway answers: null while it does, else why not.
export const away = store(null);

export class ApiError extends Error {
  constructor(status, title, detail, problem) {
    super(detail || title || `The gateway answered with status ${status}`);
    this.status = status;
    this.problem = problem ?? {};
  }
}

// Nobody answered: the gateway is away, or something between.
export class AwayError extends Error {
  constructor() {
    super('The gateway does not answer');
    this.status = 0;
  }
}

export function query(pairs) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(pairs ?? {})) {
    if (value !== undefined && value !== null && value !== '') params.set(name, value);
  }
  const text = params.toString();
  return text ? `?${text}` : '';
}

// The answer to a call, before its body is read. `token` is another than the session's.
export async function ask(path, { method = 'GET', body, headers = {}, signal, token } = {}) {
  const shown = token ?? session.get()?.token;
  let response;
  try {
    response = await fetch(path, {
      method,
      body,
      signal,
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      headers: { ...(shown ? { Authorization: `Bearer ${shown}` } : {}), ...headers },
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    away.set('The gateway does not answer.');
    throw new AwayError();
  }
  // A proxy in front says so of a gateway that is away.
  if (response.status === 502 || response.status === 504) {
    away.set(`The proxy in front of the gateway says ${response.status}.`);
    throw new AwayError();
  }
  away.set(null);
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const detail = problem.detail ?? problem.message;
  if (response.status === 401 && !token && session.get()) {
    end(detail ? `Your session has ended: ${detail}` : 'Your session has ended.');
  }
  throw new ApiError(response.status, problem.title ?? problem.error, detail, problem);
}

export async function call(path, options = {}) {
  const { json, ...rest } = options;
  if (json !== undefined) {
    rest.body = JSON.stringify(json);
    rest.headers = { 'Content-Type': 'application/json', ...rest.headers };
    rest.method ??= 'POST';
  }
  const response = await ask(path, rest);
  return response.json();
}

export const get = (path, pairs, options) => call(path + query(pairs), options);
export const post = (path, json, options) => call(path, { method: 'POST', ...(json === undefined ? {} : { json }), ...options });

export async function whoAmI(token) {
  const before = Date.now();
  const me = await call('/v1/me', { token });
  skew.set(Date.parse(me.time) - (before + Date.now()) / 2);
  return me;
}

// Reads server-sent events until they end; a connection that is lost is opened again behind the last event. Of a tab that
// nobody sees it is closed: a browser has six for all tabs of a gateway.
export async function follow(path, { signal, onEvent, onState }) {
  let last = null;
  for (let wait = 500; !signal.aborted; ) {
    await seen(signal);
    const connection = new AbortController();
    const close = () => connection.abort();
    const hide = () => document.hidden && close();
    signal.addEventListener('abort', close, { once: true });
    document.addEventListener('visibilitychange', hide);
    try {
      const headers = { Accept: 'text/event-stream', ...(last === null ? {} : { 'Last-Event-ID': last }) };
      const response = await ask(path, { headers, signal: connection.signal });
      onState?.('live');
      for await (const { event, data, id } of messages(response.body)) {
        wait = 500;
        if (id !== null) last = id;
        onEvent(event, data);
        if (event === 'end') return;
      }
    } catch (error) {
      if (signal.aborted) return;
      // What is refused stays so.
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) throw error;
    } finally {
      signal.removeEventListener('abort', close);
      document.removeEventListener('visibilitychange', hide);
      close();
    }
    onState?.('waiting');
    if (!document.hidden) await pause(wait, signal);
    wait = Math.min(wait * 2, 8000);
  }
}

// Until somebody looks.
const seen = (signal) =>
  new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener('visibilitychange', look);
      signal.removeEventListener('abort', look);
      resolve();
    };
    document.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look);
    look();
  });

export const pause = (time, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    signal?.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });

async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split('\n\n');
    rest = parts.pop();
    for (const part of parts) {
      const message = { event: 'message', data: null, id: null };
      const lines = [];
      for (const line of part.split('\n')) {
        const at = line.indexOf(':');
        if (at <= 0) continue;
        const [name, text] = [line.slice(0, at), line.slice(at + 1).replace(/^ /, '')];
        if (name === 'event') message.event = text;
        else if (name === 'id') message.id = text;
        else if (name === 'data') lines.push(text);
      }
      if (!lines.length) continue;
      try {
        yield { ...message, data: JSON.parse(lines.join('\n')) };
      } catch {
        // It is no event of ours.
      }
    }
  }
}
