// @ts-check
// What the page has seen of the traffic in the last 15 minutes: requests/s, latency and errors of models and versions.
import { between, quantile, sum } from './format.js';

const WINDOW_S = 900;
const RECENT_S = 10;
const STEP_S = 15;
const MINUTE_S = 60;

/** @typedef {import('./format.js').Sum} Sum */
/** @typedef {{time: number, run: string, bounds: number[], sums: Map<string, Sum>}} Moment */

/** The key of a consumer's figures: no model's name begins with `@`. @param {string} stage @param {string} caller */
export const callerKey = (stage, caller) => `@${stage} ${caller}`;

/** The sums of one pulse's counters by model, by model and version, and by consumer. @param {any} traffic @returns {Moment} */
function momentOf(traffic) {
  /** @type {Map<string, any[]>} */
  const rows = new Map();
  for (const row of traffic.rows) {
    for (const key of [row.model, `${row.model} ${row.version}`, ...(row.stage ? [`${row.model} ${row.version} ${row.stage}`] : [])]) {
      const known = rows.get(key);
      if (known) known.push(row);
      else rows.set(key, [row]);
    }
  }
  for (const row of traffic.callers) rows.set(callerKey(row.stage, row.caller), [row]);
  return { time: traffic.time, run: traffic.run, bounds: traffic.bounds_s, sums: new Map([...rows].map(([key, of]) => [key, sum(of)])) };
}

/** The moments with one more: each of the last seconds, one in 15 s before, none older than 15 minutes. @param {Moment[]} moments @param {any} traffic @returns {Moment[]} */
export function withTraffic(moments, traffic) {
  if (!traffic) return moments;
  const now = momentOf(traffic);
  const kept = [];
  // A server that has restarted counts from zero.
  for (const moment of moments) {
    if (moment.run !== now.run || now.time - moment.time > WINDOW_S + STEP_S) continue;
    const before = kept[kept.length - 1];
    if (now.time - moment.time <= RECENT_S + 1 || !before || Math.floor(moment.time / STEP_S) !== Math.floor(before.time / STEP_S)) kept.push(moment);
  }
  return [...kept, now];
}

/** @type {Sum} */
const NOTHING = { requests: 0, errors: 0, durations: [] };

/** Requests between moments as rates: one for each pair of neighbors. @param {Moment[]} chosen @param {string} key */
const ratesOf = (chosen, key) => chosen.slice(1).map((moment, index) => {
  const before = chosen[index];
  return { time: moment.time, perSecond: between(moment.sums.get(key) || NOTHING, before.sums.get(key) || NOTHING).requests / Math.max(0.1, moment.time - before.time) };
});

/** Moments at least so many seconds apart, and the last one. @param {Moment[]} moments @param {number} seconds */
function apart(moments, seconds) {
  /** @type {Moment[]} */
  const chosen = [];
  for (const moment of moments) if (!chosen.length || moment.time - chosen[chosen.length - 1].time >= seconds - 0.5) chosen.push(moment);
  return chosen;
}

/** The figures of a model, `iris`, of a version, `iris v1`, of a version in a stage, `iris v1 prod`, or of a `callerKey`; null without a request. @param {Moment[]} moments @param {string} key */
export function figureOf(moments, key) {
  const last = moments[moments.length - 1];
  const total = last?.sums.get(key);
  if (!last || !total) return null;
  const start = moments[0];
  const recent = moments.find((moment) => last.time - moment.time <= RECENT_S + 0.5) || last;
  const inWindow = between(total, start.sums.get(key) || NOTHING);
  // What came before the page was opened says more than nothing.
  const known = inWindow.requests ? inWindow : total;
  const seconds = last.time - recent.time;
  return {
    perSecond: seconds > 0 ? between(total, recent.sums.get(key) || NOTHING).requests / seconds : 0,
    p50: quantile(known.durations, last.bounds, 0.5),
    p99: quantile(known.durations, last.bounds, 0.99),
    errors: known.requests ? (100 * known.errors) / known.requests : 0,
    line: ratesOf(apart(moments, Math.max(1, Math.min(STEP_S, (last.time - start.time) / 60))), key).map((point) => point.perSecond),
    minutes: ratesOf(apart(moments, last.time - start.time > MINUTE_S ? MINUTE_S : STEP_S), key),
  };
}
