// What is searched for: as the address has it, and as the API is asked.
import { now } from './session.js';

export const RANGES = { '15m': 'Last 15 minutes', '1h': 'Last hour', '24h': 'Last 24 hours', '7d': 'Last 7 days' };
const LENGTHS = { '15m': 900e3, '1h': 3600e3, '24h': 86400e3, '7d': 604800e3 };
const PLAIN = ['crew', 'worker', 'error', 'chain', 'q'];

export const metaOf = (query) => Object.entries(query).filter(([name, value]) => name.startsWith('meta.') && value);
export const statesOf = (query) => (query.status ? query.status.split(',') : []);

// The parameters of GET /v1/kickoffs; without the states, of what they are counted of.
export function parameters(query, { withStates = true } = {}) {
  const pairs = {};
  for (const name of PLAIN) if (query[name]) pairs[name] = query[name];
  for (const [name, value] of metaOf(query)) pairs[name] = value;
  if (withStates && query.status) pairs.status = query.status;
  Object.assign(pairs, times(query));
  return pairs;
}

function times(query) {
  const found = {};
  // Whole minutes: what is asked for again is the same.
  if (LENGTHS[query.range]) found.since = new Date(Math.floor((now() - LENGTHS[query.range]) / 60000) * 60000).toISOString();
  else if (query.since) found.since = moment(query.since);
  if (query.until && !LENGTHS[query.range]) found.until = moment(query.until);
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value));
}

const moment = (text) => {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
};

// The filter of a bulk call, which goes on among those that were there when it was asked for.
export function bulkFilter(query, states) {
  const filter = { status: states, ...times(query) };
  if (query.crew) filter.crew = query.crew.split(',');
  if (query.worker) filter.worker = query.worker;
  if (query.error) filter.error = query.error;
  const meta = metaOf(query);
  if (meta.length) filter.meta = Object.fromEntries(meta.map(([name, value]) => [name.slice(5), value]));
  // A retry makes new kickoffs: those are not meant.
  filter.until ??= new Date(now() + 1000).toISOString();
  return filter;
}

// What is found by a filter that a bulk call cannot say.
export const isBeyondBulk = (query) => (query.q ? 'words' : query.chain ? 'a chain' : null);
// What may be the id of a kickoff or a batch.
export const isId = (text) => /^[A-Za-z0-9_-]{1,128}$/.test(text);
