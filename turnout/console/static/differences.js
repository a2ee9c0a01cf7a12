// @ts-check
// Two answers to one request beside each other: a table an output, with the elements that differ marked.
import { html } from './lib.js';
import { count } from './format.js';

/** @param {{pair: any}} props */
export function Differences({ pair }) {
  const [left, right] = pair.versions;
  return html`<div class="differences">
    ${pair.outputs.length === 0 && html`<div class="wide" tabindex="0"><table><thead><tr><th>Version</th><th>Answer</th></tr></thead><tbody>${pair.versions.map((/** @type {string} */ name, /** @type {number} */ index) => html`<tr class=${pair.replies[index].error ? 'differs' : ''}><th scope="row">${name}</th><td>HTTP ${pair.replies[index].status} ${pair.replies[index].error}</td></tr>`)}</tbody></table></div>`}
    ${pair.outputs.map((/** @type {any} */ output) => html`<div class="output">
      <h4><code>${output.name}</code> <span class=${`badge ${output.agrees ? 'successful' : 'failed'}`}>${output.agrees ? 'agrees' : 'disagrees'}</span> <span class="muted small">rule ${output.measure}${output.problem && `, ${output.problem}`}; ${count(output.differing)} of ${count(output.size)} elements differ</span></h4>
      <div class="wide" tabindex="0" role="region" aria-label=${`${output.name}: ${left} and ${right}`}><table class="pair">
        <thead><tr><th>Element</th><th class="number">${left}</th><th class="number">${right}</th><th class="number">Difference</th></tr></thead>
        <tbody>${output.rows.map((/** @type {any} */ row) => html`<tr class=${row.differs ? 'differs' : ''}><th scope="row">[${row.at.join(', ')}]</th><td class="number">${shown(row.values[0])}</td><td class="number">${shown(row.values[1])}</td><td class="number">${row.differs ? apart(row.values) : 'equal'}</td></tr>`)}</tbody>
      </table></div>
      ${output.rows.length < output.size && html`<p class="muted small">${count(output.rows.length)} of ${count(output.size)} elements${output.differing > output.rows.length ? '' : ', all that differ'}.</p>`}
    </div>`)}
  </div>`;
}

/** @param {any} value */
const shown = (value) => (value === null ? 'missing' : typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : String(value));

/** @param {any[]} values */
function apart([left, right]) {
  if (typeof left === 'number' && typeof right === 'number') return Number((right - left).toPrecision(3));
  const isWhole = [left, right].every((value) => typeof value === 'bigint' || Number.isSafeInteger(value));
  return isWhole ? String(BigInt(right) - BigInt(left)) : 'differs';
}
