// What a kickoff did, as bars over time: made of its events.

const ENDS = /_(completed|finished|failed|error)$/;
const STARTS = /_started$/;
// What each kind of event is a bar of, and how deep it stands.
const KINDS = [
  [/^llm_call/, 'llm', 3],
  [/^(tool_usage|mcp_tool_execution)/, 'tool', 3],
  [/^(agent_execution|lite_agent_execution|agent_reasoning)/, 'agent', 2],
  [/^(task|method_execution)/, 'task', 1],
  [/^(crew_kickoff|flow)/, 'crew', 1],
];
export const NAMES = { queue: 'Queue wait', attempt: 'Attempt', crew: 'Crew or flow', task: 'Task', agent: 'Agent', llm: 'Model call', tool: 'Tool call', other: 'Other' };

const ms = (event) => Date.parse(event.time);
const kindOf = (base) => KINDS.find(([pattern]) => pattern.test(base)) ?? [null, 'other', 3];

function nameOf(kind, base, data) {
  const names = { llm: data.model, tool: data.tool, agent: data.agent, task: data.task ?? data.method, crew: data.crew ?? data.flow };
  return names[kind] ?? data.task ?? data.agent ?? base.replaceAll('_', ' ');
}

// `events` in the order of their stream; `end`: when it ended, or now (ms).
export function spansOf(kickoff, events, end) {
  const spans = [];
  const open = new Map();
  let attempt = null;
  let waitsSince = Date.parse(kickoff.created_at);
  let waitsFor = 'Waits for a worker';
  const closeAll = (at, error) => {
    for (const list of open.values()) for (const span of list) Object.assign(span, { end: at, cut: true });
    open.clear();
    if (attempt) Object.assign(attempt, { end: at, open: false, error: error ?? attempt.error });
    attempt = null;
  };
  const wait = (until, isOpen) => {
    if (waitsSince !== null && until >= waitsSince) spans.push({ kind: 'queue', name: waitsFor, depth: 0, start: waitsSince, end: until, open: isOpen });
    waitsSince = null;
  };
  for (const event of events) {
    const { type, data } = event;
    if (type === 'kickoff_started') {
      closeAll(ms(event));
      wait(ms(event), false);
      attempt = { kind: 'attempt', name: `Attempt ${event.attempt}${event.redrive ? `, redrive ${event.redrive}` : ''}`, detail: data.worker, depth: 0, start: ms(event), end: null, open: true, tokens: 0 };
      spans.push(attempt);
    } else if (type === 'kickoff_retrying') {
      closeAll(ms(event), data.reason);
      waitsSince = ms(event);
      waitsFor = `Waits for attempt ${data.attempt ?? event.attempt + 1}`;
    } else if (type === 'kickoff_queued' && !attempt && spans.length) {
      waitsSince ??= ms(event);
    } else if (type === 'kickoff_finished') {
      closeAll(ms(event), data.status === 'succeeded' ? null : data.status);
      waitsSince = null;
    } else if (STARTS.test(type)) {
      const base = type.replace(STARTS, '');
      const [, kind, depth] = kindOf(base);
      const span = { kind, name: nameOf(kind, base, data), detail: kind === 'llm' || kind === 'tool' ? data.agent : null, callId: data.call_id, depth, start: ms(event), end: null, open: true, tokens: 0 };
      const key = keyOf(base, data);
      if (!open.has(key)) open.set(key, []);
      open.get(key).push(span);
      spans.push(span);
    } else if (ENDS.test(type)) {
      finish(event, open, spans, attempt);
    }
  }
  if (events.length === 0 || (!attempt && waitsSince !== null && !kickoff.started_at)) wait(end, !kickoff.finished_at);
  else if (!attempt && waitsSince !== null && !kickoff.finished_at) wait(end, true);
  for (const span of spans) span.end ??= end;
  return spans;
}

const keyOf = (base, data) => [base, data.call_id ?? [data.crew, data.flow, data.method, data.task, data.agent, data.tool, data.model].join('\n')].join('\n');

function finish(event, open, spans, attempt) {
  const { type, data } = event;
  const base = type.replace(ENDS, '');
  const key = keyOf(base, data);
  let span = open.get(key)?.pop();
  if (open.get(key)?.length === 0) open.delete(key);
  if (!span) {
    // Its beginning is not here; how long it took may be.
    const [, kind, depth] = kindOf(base);
    const took = (data.duration_s ?? 0) * 1000;
    span = { kind, name: nameOf(kind, base, data), depth, start: ms(event) - took, tokens: 0 };
    spans.push(span);
  }
  Object.assign(span, { end: ms(event), open: false, tokens: data.usage?.total_tokens ?? 0, usage: data.usage, cached: data.from_cache });
  if (/_(failed|error)$/.test(type)) span.error = data.error ?? 'failed';
  if (attempt && span.tokens) attempt.tokens += span.tokens;
}

// Tokens of the models' calls within a bar.
export function tokensWithin(span, spans) {
  if (span.kind === 'llm' || span.kind === 'attempt') return span.tokens;
  if (span.kind !== 'task' && span.kind !== 'agent' && span.kind !== 'crew') return 0;
  return spans.filter((one) => one.kind === 'llm' && one.start >= span.start && one.end <= span.end).reduce((sum, one) => sum + one.tokens, 0);
}
