// The events of a kickoff, those that are kept and those to come; and what a model says as it says it.
import { useState, useEffect } from './html.js';
import { follow } from './api.js';

const DRAWN = 120;

// `run` changes when it runs once more after it has ended.
export function useEvents(id, run, onNews) {
  const [state, setState] = useState({ events: [], said: null, connection: 'loading', error: null });
  useEffect(() => {
    const stop = new AbortController();
    const events = [];
    const said = new Map();
    let last = null;
    let timer = null;
    let connection = 'loading';
    const draw = () => {
      timer = null;
      if (!stop.signal.aborted) setState({ events: [...events], said: last && { id: last, text: said.get(last) }, connection, error: null });
    };
    const soon = () => (timer ??= setTimeout(draw, DRAWN));
    const onEvent = (type, data) => {
      if (type === 'end') {
        last = null;
        connection = 'ended';
        onNews();
      } else if (type === 'llm_stream_chunk') {
        const { call_id: call, chunk, offset } = data.data;
        const text = said.get(call) ?? '';
        // A piece that was missed leaves a gap; what comes twice is taken once.
        said.set(call, offset === undefined || offset >= text.length ? text + chunk : text);
        last = call;
      } else if (data?.type) {
        events.push(data);
        if (/^llm_call_(completed|failed)$/.test(type) && data.data?.call_id === last) last = null;
        if (type.startsWith('kickoff_')) onNews();
      }
      soon();
    };
    const onState = (next) => ((connection = next), soon());
    follow(`/v1/kickoffs/${encodeURIComponent(id)}/events`, { signal: stop.signal, onEvent, onState }).catch((error) => setState((before) => ({ ...before, connection: 'ended', error })));
    return () => (stop.abort(), clearTimeout(timer));
  }, [id, run]);
  return state;
}
