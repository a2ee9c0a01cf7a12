// @ts-check
// Charts: evidence over requests, histograms, sparklines. Each has its numbers in a table beside it.
import { html, useEffect, useRef, useState } from './lib.js';
import uPlot from './vendor/uplot.js';
import { clock, count, duration, percent } from './format.js';

const HEIGHT = 160;
const DARK = matchMedia('(prefers-color-scheme: dark)');

/** @param {string} name */
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * Evidence for both claims over the canary's requests, and what is enough.
 * @param {{points: {count: number, successful: number, failed: number, enough: number}[], label: string}} props
 */
export function EvidenceChart({ points, label }) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const key = points.length ? points[points.length - 1].count : 0;
  const [isDark, setDark] = useState(DARK.matches);
  useEffect(() => {
    const change = () => setDark(DARK.matches);
    DARK.addEventListener('change', change);
    return () => DARK.removeEventListener('change', change);
  }, []);
  useEffect(() => {
    const element = place.current;
    if (!element || points.length < 1) return undefined;
    const floor = (/** @type {number} */ value) => Math.max(value, -1);
    const last = points[points.length - 1];
    // Every test starts at 0, without a request.
    const all = points[0].count > 0 ? [{ count: 0, successful: 0, failed: 0, enough: last.enough }, ...points] : points;
    const data = [
      all.map((point) => point.count),
      all.map((point) => floor(point.successful)),
      all.map((point) => floor(point.failed)),
      all.map(() => last.enough),
    ];
    const axis = { stroke: color('--muted'), grid: { stroke: color('--line') }, font: '12px system-ui' };
    const chart = new /** @type {any} */ (uPlot)(
      {
        width: Math.max(200, element.clientWidth),
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false }, y: { range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => [Math.min(-1, low), Math.max(last.enough * 1.15, high)] } },
        axes: [axis, { ...axis, size: 36 }],
        series: [
          {},
          { stroke: color('--good'), width: 2, points: { show: points.length < 3 } },
          { stroke: color('--bad'), width: 2, dash: [6, 3], points: { show: points.length < 3 } },
          { stroke: color('--text'), width: 1, dash: [2, 3], points: { show: false } },
        ],
      },
      /** @type {any} */ (data),
      element,
    );
    // A window may become narrower, also by zooming.
    const resized = new ResizeObserver(() => element.clientWidth > 0 && chart.setSize({ width: Math.max(200, element.clientWidth), height: HEIGHT }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      chart.destroy();
    };
  }, [key, points.length, isDark]);
  return html`<figure class="chart">
    <div ref=${place} role="img" aria-label=${label}></div>
    <figcaption><span class="key good"></span>for successful <span class="key bad dashed"></span>for failed <span class="key enough"></span>threshold of both</figcaption>
  </figure>`;
}

/**
 * Latency of both shares over each other, each as a part of its own requests.
 * @param {{shares: any, bounds: number[]}} props
 */
export function LatencyHistogram({ shares, bounds }) {
  const names = ['baseline', 'canary'].filter((name) => shares[name]?.durations?.length);
  if (!names.length) return null;
  const used = bounds.map((_, index) => index).filter((index) => names.some((name) => shares[name].durations[index] > 0));
  if (!used.length) return null;
  const first = Math.max(0, used[0] - 1);
  const shown = bounds.slice(first, used[used.length - 1] + 2).map((_, offset) => first + offset);
  const part = (/** @type {string} */ name, /** @type {number} */ index) => shares[name].durations[index] / Math.max(1, shares[name].requests);
  const highest = Math.max(...shown.flatMap((index) => names.map((name) => part(name, index))), 1e-9);
  const width = 600;
  const step = width / shown.length;
  return html`<figure class="chart">
    <svg viewBox="-16 0 ${width + 24} 130" role="img" aria-label="Latency of baseline and canary">
      ${shown.map(
        (index, column) => html`${names.map((name, place) => {
            const height = (100 * part(name, index)) / highest;
            return html`<rect class=${`bar ${name}`} x=${column * step + place * (step / 2.4) + 2} y=${105 - height} width=${step / 2.4 - 2} height=${height} />`;
          })}
          ${column % Math.ceil(shown.length / 8) === 0 && html`<text x=${column * step + step / 2} y="124" text-anchor="middle">${duration(bounds[index])}</text>`}`,
      )}
    </svg>
    <figcaption><span class="key baseline"></span>baseline <span class="key canary"></span>canary, each as a share of its requests</figcaption>
    <details>
      <summary>The numbers</summary>
      <table>
        <thead><tr><th>Up to</th>${names.map((name) => html`<th class="number">${name}</th>`)}</tr></thead>
        <tbody>${shown.map((index) => html`<tr><td>${duration(bounds[index])}</td>${names.map((name) => html`<td class="number">${count(shares[name].durations[index])}</td>`)}</tr>`)}</tbody>
      </table>
    </details>
  </figure>`;
}

/**
 * Error rates of both shares over each other, by time: first what came before the page was opened.
 * @param {{points: any[]}} props
 */
export function ErrorHistogram({ points }) {
  const zero = { requests: 0, errors: 0 };
  const slices = points.map((point, index) => {
    const before = points[index - 1];
    const part = (/** @type {string} */ name) => {
      const [now, then] = [point[name], before ? before[name] : zero];
      return { requests: Math.max(0, now.requests - then.requests), errors: Math.max(0, now.errors - then.errors) };
    };
    return { title: before ? clock(point.time).slice(11) : 'before', baseline: part('baseline'), canary: part('canary') };
  });
  if (!slices.length) return null;
  const names = /** @type {const} */ (['baseline', 'canary']);
  const share = (/** @type {{requests: number, errors: number}} */ part) => (part.requests ? part.errors / part.requests : 0);
  const highest = Math.max(...slices.flatMap((slice) => names.map((name) => share(slice[name]))));
  const width = 600;
  const step = width / Math.max(8, slices.length);
  return html`<figure class="chart">
    ${highest > 0 && html`<svg viewBox="-16 0 ${width + 24} 130" role="img" aria-label=${`Error rate of baseline and canary, at most ${percent(100 * highest)}`}>
      <line class="axis" x1="0" x2=${width} y1="105" y2="105" />
      <text x="0" y="10">${percent(100 * highest)}</text>
      ${slices.map((slice, column) => html`${names.map((name, place) => {
            const height = (88 * share(slice[name])) / highest;
            return html`<rect class=${`bar ${name}`} x=${column * step + place * (step / 2.4) + 2} y=${105 - height} width=${Math.max(1, step / 2.4 - 2)} height=${height} />`;
          })}
          ${column % Math.ceil(slices.length / 8) === 0 && html`<text x=${column * step + step / 2} y="124" text-anchor="middle">${slice.title}</text>`}`)}
    </svg>`}
    <figcaption>${highest > 0 ? html`<span class="key baseline"></span>baseline <span class="key canary"></span>canary, errors as a share of requests` : 'No request has failed so far.'}</figcaption>
    <details>
      <summary>Errors by time</summary>
      <table>
        <thead><tr><th>Until (UTC)</th>${names.map((name) => html`<th class="number">${name}</th>`)}</tr></thead>
        <tbody>${slices.map((slice) => html`<tr key=${slice.title}><td>${slice.title}</td>${names.map((name) => html`<td class="number">${count(slice[name].errors)} of ${count(slice[name].requests)}</td>`)}</tr>`)}</tbody>
      </table>
    </details>
  </figure>`;
}

/** Requests per second of the last minutes. @param {{values: number[], label: string}} props */
export function Sparkline({ values, label }) {
  if (values.length < 2) return null;
  const highest = Math.max(...values, 1e-9);
  const points = values.map((value, index) => `${((index * 100) / (values.length - 1)).toFixed(1)},${(22 - (20 * value) / highest).toFixed(1)}`);
  return html`<svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label=${label}><polyline points=${points.join(' ')} /></svg>`;
}
