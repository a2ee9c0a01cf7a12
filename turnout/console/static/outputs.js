// @ts-check
// One output of an answer: as a table, bars, a picture, or raw.
import { html, useEffect, useRef, useState } from './lib.js';
import { spell } from './json.js';

const MOST_ROWS = 20;
const MOST_COLUMNS = 30;
const MOST_BARS = 64;
const MOST_RAW = 10000;
const LEAST_SIDE = 8;
const MOST_PIXELS = 4096 * 4096;
const CHANNELS = [1, 3, 4];
const SPECIAL = new Set(['NaN', 'Infinity', '-Infinity']);

/** @typedef {{height: number, width: number, channels: number, first: boolean, isSure: boolean}} Layout */

/**
 * How an output would be a picture: `[H, W]`, `[H, W, C]` or `[C, H, W]`, in a batch of 1 or without; null for others.
 * A table of numbers may be meant by `[H, W]`: such a picture is not sure.
 * @param {{datatype: string, shape: number[]}} output @returns {Layout | null}
 */
export function pictureLayout({ datatype, shape }) {
  if (datatype === 'BYTES') return null;
  const inner = shape.length === 4 && shape[0] === 1 ? shape.slice(1) : shape;
  const fits = (/** @type {number} */ height, /** @type {number} */ width) => height >= LEAST_SIDE && width >= LEAST_SIDE && height * width <= MOST_PIXELS;
  const [a, b, c] = inner;
  if (inner.length === 2) return fits(a, b) ? { height: a, width: b, channels: 1, first: true, isSure: false } : null;
  if (inner.length !== 3) return null;
  if (CHANNELS.includes(c) && fits(a, b)) return { height: a, width: b, channels: c, first: false, isSure: true };
  if (CHANNELS.includes(a) && fits(b, c)) return { height: b, width: c, channels: a, first: true, isSure: true };
  return null;
}

/**
 * The pixels, RGBA, and how they came from the values: 0-255 as they are, 0-1 times 255, others stretched.
 * @param {any[]} data @param {Layout} layout @param {string} datatype
 */
export function pixelsOf(data, layout, datatype) {
  const { height, width, channels, first } = layout;
  const values = Float64Array.from(data, (value) => Number(value));
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) [low, high] = [0, 0];
  const isBytes = datatype === 'UINT8' || (low >= 0 && high > 1 && high <= 255);
  const isUnit = !isBytes && low >= 0 && high <= 1;
  const [from, scale] = isBytes ? [0, 1] : isUnit ? [0, 255] : [low, high > low ? 255 / (high - low) : 0];
  const pixels = new Uint8ClampedArray(4 * height * width);
  const at = (/** @type {number} */ place, /** @type {number} */ channel) => {
    const value = values[first ? channel * height * width + place : place * channels + channel];
    return Number.isFinite(value) ? (value - from) * scale : value > 0 ? 255 : 0;
  };
  for (let place = 0; place < height * width; place++) {
    for (let channel = 0; channel < 3; channel++) pixels[4 * place + channel] = at(place, channels === 1 ? 0 : channel);
    pixels[4 * place + 3] = channels === 4 ? at(place, 3) : 255;
  }
  const number = (/** @type {number} */ value) => Number(value.toPrecision(3));
  return { pixels, note: isBytes ? 'values 0 to 255' : isUnit ? 'values 0 to 1' : `values ${number(low)} to ${number(high)}, stretched` };
}

/** @param {{output: any, layout: Layout}} props */
function Picture({ output, layout }) {
  const place = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const [note, setNote] = useState('');
  useEffect(() => {
    const canvas = place.current;
    if (!canvas) return;
    const { pixels, note: said } = pixelsOf(output.data.flat(Infinity), layout, output.datatype);
    canvas.width = layout.width;
    canvas.height = layout.height;
    /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d')).putImageData(new ImageData(pixels, layout.width, layout.height), 0, 0);
    setNote(said);
  }, [output]);
  return html`<figure class="picture"><canvas ref=${place} role="img" aria-label=${`${output.name} as a picture, ${layout.width} by ${layout.height}`}></canvas><figcaption class="muted small">${layout.width} by ${layout.height}, ${note}</figcaption></figure>`;
}

/** The first row as bars from zero, each with its number. @param {{row: any[]}} props */
function Bars({ row }) {
  const values = row.map(Number);
  const finite = values.filter(Number.isFinite);
  const low = Math.min(0, ...finite);
  const span = Math.max(0, ...finite) - low || 1;
  return html`<div class="wide" tabindex="0"><table class="bars"><thead><tr><th class="number">Place</th><th class="number">Value</th><th><span class="hidden">Bar</span></th></tr></thead><tbody>${values.map((value, index) => html`<tr><td class="number">${index}</td><td class="number">${shown(row[index])}</td><td>${Number.isFinite(value) && html`<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect x=${(100 * (Math.min(0, value) - low)) / span} width=${(100 * Math.abs(value)) / span} height="8" /></svg>`}</td></tr>`)}</tbody></table></div>`;
}

/** @param {any} value */
const shown = (value) => (typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : String(value));

/** How far two numbers are apart; NaN is as far from NaN as 0. @param {any} one @param {any} other */
function distance(one, other) {
  if (one === other) return 0;
  if (typeof one === 'bigint' || typeof other === 'bigint') return Math.abs(Number(BigInt(one) - BigInt(other)));
  const apart = Math.abs(Number(one) - Number(other));
  return Number.isNaN(apart) ? Infinity : apart;
}

/** One output, and what differs from the other version's. @param {any} props */
export function Output({ output, other }) {
  const data = output.data.flat(Infinity);
  const width = Math.max(1, output.shape.length < 2 ? 1 : output.shape.slice(1).reduce((/** @type {number} */ product, /** @type {number} */ length) => product * length, 1));
  const rows = [];
  for (let at = 0; at < data.length && rows.length < MOST_ROWS; at += width) rows.push(data.slice(at, at + width));
  // Numbers that JSON has no form for come as texts: "NaN", "Infinity".
  const isNumber = (/** @type {any} */ value) => typeof value === 'number' || typeof value === 'bigint' || (output.datatype !== 'BYTES' && SPECIAL.has(value));
  const numbers = data.length > 0 && data.every(isNumber);
  const isProbability = numbers && width > 1 && rows.every((row) => Math.abs(row.reduce((/** @type {number} */ sum, /** @type {any} */ value) => sum + Number(value), 0) - 1) < 1e-3 && row.every((/** @type {any} */ value) => value >= 0));
  const others = other?.data?.flat?.(Infinity);
  const isAlike = others?.length === data.length;
  const worst = others && numbers && isAlike && others.every(isNumber) ? data.reduce((/** @type {number} */ most, /** @type {any} */ value, /** @type {number} */ index) => Math.max(most, distance(value, others[index])), 0) : null;
  const differs = others && (!isAlike || data.some((/** @type {any} */ value, /** @type {number} */ index) => value !== others[index]));
  const layout = pictureLayout(output);
  const views = ['Table', ...(numbers && width > 1 && width <= MOST_BARS ? ['Bars'] : []), ...(layout && data.length === layout.height * layout.width * layout.channels ? ['Picture'] : []), 'Raw'];
  const [chosen, setChosen] = useState(layout?.isSure ? 'Picture' : 'Table');
  const view = views.includes(chosen) ? chosen : 'Table';
  const cell = (/** @type {any} */ value, /** @type {number} */ at) => {
    const isOff = isAlike && value !== others[at];
    return html`<td class=${`${output.datatype === 'BYTES' ? '' : 'number'} ${isOff ? 'differs' : ''}`} title=${isOff ? `the other version: ${shown(others[at])}` : null}>${isOff && html`<span class="mark" aria-hidden="true">≠ </span>`}${shown(value)}${isOff && html`<span class="hidden"> instead of ${shown(others[at])}</span>`}${isProbability && html`<svg class="probability" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect width=${100 * Number(value)} height="4" /></svg>`}</td>`;
  };
  return html`<div class="output"><h4><code>${output.name}</code> <span class="muted">${output.datatype} [${output.shape.join(', ')}]</span> ${others && html`<span class=${`badge ${differs ? 'inconclusive' : 'successful'}`}>${differs ? (worst === null || !Number.isFinite(worst) ? 'differs' : `differs by up to ${Number(worst.toPrecision(3))}`) : 'equal'}</span>`}</h4>
    <div class="tabs small" role="tablist" aria-label=${`${output.name} as`}>${views.map((name) => html`<button type="button" role="tab" aria-selected=${view === name ? 'true' : 'false'} onClick=${() => setChosen(name)}>${name}</button>`)}</div>
    ${view === 'Picture' && layout && html`<${Picture} output=${output} layout=${layout} />`}
    ${view === 'Bars' && html`<${Bars} row=${rows[0]} />`}
    ${view === 'Raw' && html`<pre tabindex="0">${spell(data.length > MOST_RAW ? data.slice(0, MOST_RAW) : output.data)}</pre>${data.length > MOST_RAW && html`<p class="muted small">The first ${MOST_RAW} of ${data.length} values.</p>`}`}
    ${view === 'Table' && html`<div class="wide" tabindex="0"><table><tbody>${rows.map((row, at) => html`<tr>${row.slice(0, MOST_COLUMNS).map((/** @type {any} */ value, /** @type {number} */ column) => cell(value, at * width + column))}</tr>`)}</tbody></table></div>`}
    ${view === 'Table' && width > MOST_COLUMNS && html`<p class="muted small">The first ${MOST_COLUMNS} of ${width} values of a row.</p>`}
    ${((view === 'Table' && data.length > rows.length * width) || (view === 'Bars' && data.length > width)) && html`<p class="muted small">The first ${view === 'Bars' ? 1 : rows.length} of ${Math.ceil(data.length / width)} rows.</p>`}
  </div>`;
}
