// Asks again and again, while somebody looks: a tab in the background asks nothing.
import { useState, useEffect, useRef } from './html.js';
import { away } from './api.js';
import { useStore } from './store.js';

// { data, error, refresh } of what `ask(signal)` gives, anew every `every` ms and whenever one of `of` changes.
export function usePoll(ask, every, of) {
  const [state, setState] = useState({ data: null, error: null });
  const again = useRef(() => {});
  useEffect(() => {
    const stop = new AbortController();
    let timer = null;
    let running = false;
    setState((before) => ({ ...before, error: null }));
    const run = async () => {
      clearTimeout(timer);
      if (running || stop.signal.aborted) return;
      if (document.hidden) return;
      running = true;
      let failed = false;
      try {
        const data = await ask(stop.signal);
        if (!stop.signal.aborted) setState({ data, error: null });
      } catch (error) {
        failed = true;
        // While the gateway is away what was there stays; the banner says so.
        if (!stop.signal.aborted && error.status !== 0) setState((before) => ({ ...before, error }));
      }
      running = false;
      if (!stop.signal.aborted && (every || failed)) timer = setTimeout(run, failed ? 2000 : every);
    };
    const shown = () => document.hidden || run();
    document.addEventListener('visibilitychange', shown);
    again.current = run;
    run();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', shown);
    };
  }, of);
  return { ...state, refresh: () => again.current() };
}

// A clock that ticks, for durations that go on.
export function useTick(every = 1000) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || tick((n) => n + 1), every);
    return () => clearInterval(timer);
  }, [every]);
}

export const useAway = () => useStore(away);
