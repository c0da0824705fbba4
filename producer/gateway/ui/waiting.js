// What a kickoff waits for, or does, in words.
import { html } from './html.js';
import { get } from './api.js';
import { usePoll, useTick } from './poll.js';
import { now } from './session.js';
import { briefly, plural, number, ago } from './format.js';
import { Notice } from './parts.js';

function retrying(event, kickoff) {
  const { reason, attempt, delay_s: delay } = event.data;
  const left = Date.parse(event.time) + (delay ?? 0) * 1000 - now();
  const when = left > 1000 ? `It starts in ${briefly(left)} at the earliest.` : 'It starts as soon as a worker takes it.';
  return [`Attempt ${event.attempt} of ${kickoff.crew} failed${reason ? ` (${reason})` : ''}. It waits for attempt ${attempt ?? event.attempt + 1}.`, when];
}

export function queueWords(crew) {
  if (!crew) return 'It waits for a worker to take it.';
  const { name, limits, queue } = crew;
  const ahead = queue?.messages ? ` ${plural(queue.messages, 'request')} ${queue.messages === 1 ? 'waits' : 'wait'} in its queue, this one among them.` : '';
  const troubles = crew.troubles.map((one) => ` ${one.worker} cannot serve it: ${one.trouble}.`).join('');
  if (!crew.workers.length) return `No worker serves ${name} at present. It starts when one does.${ahead}`;
  if (crew.paused) return `${name} is paused. It starts when somebody resumes the crew.${ahead}`;
  if (!limits.concurrency) return `All workers of ${name} drain. It starts when another one comes.${ahead}`;
  if (crew.troubles.length >= crew.workers.length) return `No worker can serve ${name}.${troubles}${ahead}`;
  if (crew.in_flight >= limits.concurrency) return `All ${number(limits.concurrency)} slots of ${name} are in use. It starts when one of those kickoffs ends.${ahead}${troubles}`;
  return `A worker of ${name} takes it next: ${number(limits.concurrency - crew.in_flight)} of ${number(limits.concurrency)} slots are free.${ahead}${troubles}`;
}

export function Waiting({ kickoff, events, spans }) {
  const waits = kickoff.status === 'queued';
  const { data: crew } = usePoll((signal) => (waits ? get(`/v1/crews/${kickoff.crew}`, null, { signal }) : Promise.resolve(null)), waits ? 4000 : 0, [waits, kickoff.crew]);
  useTick(1000);
  if (waits) {
    const last = events.filter((event) => ['kickoff_retrying', 'kickoff_started'].includes(event.type)).pop();
    const [words, when] = last?.type === 'kickoff_retrying' ? retrying(last, kickoff) : [queueWords(crew), ''];
    // What changes each second is not read out each second.
    return html`<${Notice} kind="info"><span role="status"><strong>It waits.</strong> ${words}</span> ${when} It was created ${ago(kickoff.created_at)}.<//>`;
  }
  if (kickoff.status === 'unknown') return html`<${Notice} kind="warn">The streams let go of events that this gateway had not read yet, so what became of it is not known. Its next event or its reply tells.<//>`;
  if (kickoff.status !== 'running') return null;
  const cancelling = events.find((event) => event.type === 'kickoff_cancelling' && event.attempt === kickoff.attempt && event.redrive === kickoff.redrive);
  if (cancelling) return html`<${Notice} kind="warn"><strong>It is being cancelled.</strong> Its crew has ${cancelling.data.grace_s ?? 'a few'} s to stop by itself; then it is killed.<//>`;
  const doing = spans.filter((span) => span.open && span.kind !== 'attempt' && span.kind !== 'queue');
  const deepest = doing.sort((a, b) => b.depth - a.depth)[0];
  const words = deepest ? { llm: `It waits for the model ${deepest.name}`, tool: `It uses the tool ${deepest.name}`, agent: `The agent ${deepest.name} works`, task: `It is at the task ${deepest.name}` }[deepest.kind] ?? `It is at ${deepest.name}` : 'Its crew runs, and has told of nothing that it does now';
  return html`<${Notice} kind="info"><span role="status"><strong>It runs</strong> on ${kickoff.worker ?? 'a worker'}. ${words}.</span>${deepest && ` It has for ${briefly(now() - deepest.start)}.`}<//>`;
}
