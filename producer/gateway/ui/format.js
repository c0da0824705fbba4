// Numbers and times, as people read them.
import { now } from './session.js';

const count = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const number = (value) => (value === null || value === undefined ? '–' : count.format(value));
export const compact = (value) => (value === null || value === undefined ? '–' : short.format(value));
export const percent = (share) => {
  if (share === null || share === undefined) return '–';
  const digits = share > 0 && share < 0.0995 ? 1 : 0;
  return `${(share * 100).toFixed(digits)} %`;
};

export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return '–';
  const s = Math.max(ms, 0) / 1000;
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const since = (at) => (at ? now() - Date.parse(at) : null);
export const ago = (at) => {
  if (!at) return '–';
  const ms = since(at);
  return ms < 5000 ? 'just now' : `${briefly(ms)} ago`;
};
// One unit is enough of a moment that is over.
export function briefly(ms) {
  const s = Math.max(ms, 0) / 1000;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const whole = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

export const time = (at) => {
  if (!at) return '–';
  const date = new Date(at);
  const today = new Date(now()).toDateString() === date.toDateString();
  return today ? clock.format(date) : `${day.format(date)}, ${clock.format(date).slice(0, 5)}`;
};
export const moment = (at) => (at ? whole.format(new Date(at)) : '–');
export const bytes = (value) => {
  if (value === null || value === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit ? value.toFixed(value < 10 ? 1 : 0) : value} ${units[unit]}`;
};
export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

export const STATES = {
  queued: 'Queued',
  running: 'Running',
  succeeded: 'Succeeded',
  failed: 'Failed',
  timed_out: 'Timed out',
  cancelled: 'Cancelled',
  expired: 'Expired',
  rejected: 'Rejected',
  unknown: 'Unknown',
};
export const isOver = (state) => !['queued', 'running', 'unknown'].includes(state);
export const shortId = (id) => (id.length > 20 ? `${id.slice(0, 8)}…${id.slice(-6)}` : id);
