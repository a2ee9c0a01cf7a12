// @ts-check
// Numbers as text, and sums over counters.

/** @param {number | null | undefined} value */
export const count = (value) => (value == null ? '-' : Math.round(value).toLocaleString('en-US'));

/** @param {number} value percent */
export const percent = (value) => `${Number(value.toFixed(value < 1 ? 2 : 1))}%`;

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds == null) return '-';
  if (!Number.isFinite(seconds)) return '> 30 s';
  return seconds < 1 ? `${Number((seconds * 1000).toPrecision(2))} ms` : `${Number(seconds.toPrecision(2))} s`;
}

/** @param {number | null | undefined} bytes */
export function size(bytes) {
  if (bytes == null) return '-';
  for (const unit of ['B', 'KB', 'MB', 'GB']) {
    if (bytes < 1000 || unit === 'GB') return `${Number(bytes.toPrecision(3))} ${unit}`;
    bytes /= 1000;
  }
  return '';
}

/** @param {number} value requests per second */
export const rate = (value) => (value === 0 ? '0' : value < 10 ? value.toFixed(1) : count(value));

/** The bound that a share of the requests did not exceed. @param {number[]} durations @param {number[]} bounds @param {number} share */
export function quantile(durations, bounds, share) {
  const total = durations.reduce((sum, number) => sum + number, 0);
  if (!total) return null;
  let seen = 0;
  for (let index = 0; index < durations.length; index++) {
    seen += durations[index];
    if (seen >= share * total) return index < bounds.length ? bounds[index] : Infinity;
  }
  return Infinity;
}

/** @typedef {{requests: number, errors: number, durations: number[]}} Sum */

/** The sum of counters. @param {any[]} rows @returns {Sum} */
export function sum(rows) {
  /** @type {Sum} */
  const total = { requests: 0, errors: 0, durations: [] };
  for (const row of rows) {
    total.requests += row.requests;
    total.errors += row.errors;
    row.durations.forEach((/** @type {number} */ number, /** @type {number} */ index) => {
      total.durations[index] = (total.durations[index] || 0) + number;
    });
  }
  return total;
}

/** What came between two sums. @param {Sum} now @param {Sum} then @returns {Sum} */
export function between(now, then) {
  const durations = now.durations.map((number, index) => Math.max(0, number - (then.durations[index] || 0)));
  return { requests: Math.max(0, now.requests - then.requests), errors: Math.max(0, now.errors - then.errors), durations };
}

/** @param {string} time `2026-11-30T08:00:00Z` */
export const moment = (time) => time.replace('T', ' ').replace('Z', ' UTC');

/** @param {number} seconds since 1970 */
export const clock = (seconds) => new Date(seconds * 1000).toISOString().replace('T', ' ').slice(0, 19);

/** @param {number} seconds `9 min 40 s` */
export const span = (seconds) => [seconds >= 60 && `${Math.floor(Math.ceil(seconds) / 60)} min`, (seconds < 600 || Math.ceil(seconds) % 60 > 0) && `${Math.ceil(seconds) % 60} s`].filter(Boolean).join(' ');
