// @ts-check
// The plan: quotas as bars, functions, and what AWS would charge.
import { getJson, html, useEffect, useState } from './lib.js';
import { count } from './format.js';

/** @param {{generation: string}} props */
export function Plan({ generation }) {
  const [plan, setPlan] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState('');
  useEffect(() => {
    getJson('/plan').then(setPlan).catch((error) => setProblem(error.message));
  }, [generation]);
  if (!plan) return html`<section><p role="status">${problem || 'Planning...'}</p></section>`;
  const dollars = (/** @type {number} */ value) => `$${value.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  const quotas = plan.quotas.filter((/** @type {any} */ quota) => quota.is_fullest || quota.share > 0.8);
  return html`<section aria-labelledby="plan-title">
    <h2 id="plan-title">Plan</h2>
    <p>${count(plan.functions.length)} functions and ${count(plan.routes)} routes in ${count(plan.apis.length)} APIs. The same in a terminal: <code>turnout plan</code>.</p>
    ${plan.notes.length > 0 && html`<ul>${plan.notes.map((/** @type {string} */ text) => html`<li>${text}</li>`)}</ul>`}
    <h3>Quotas of AWS, each where it is fullest</h3>
    <div class="wide" tabindex="0"><table>
      <thead><tr><th>Quota</th><th>Of</th><th class="number">Used</th><th class="number">Allowed</th><th class="number">Share</th><th><span class="hidden">Bar</span></th></tr></thead>
      <tbody>${quotas.map((/** @type {any} */ quota) => html`<tr class=${quota.exceeded ? 'bad-text' : ''}><td>${quota.name}</td><td>${quota.subject}</td><td class="number">${quota.used}</td><td class="number">${quota.allowed}</td><td class="number">${Math.round(100 * quota.share)}%</td>
        <td><svg class="quota" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class="back" width="100" height="8" /><rect class=${quota.share > 0.8 ? 'near' : ''} width=${Math.min(100, 100 * quota.share)} height="8" /></svg></td></tr>`)}</tbody>
    </table></div>
    <p class="muted small"><code>turnout plan --json</code> has all ${count(plan.quotas.length)}.</p>
    <h3>Cost on AWS, a month without calls: ${dollars(plan.costs.month_at_rest.dollars)}</h3>
    <div class="wide" tabindex="0"><table>
      <thead><tr><th>Item</th><th class="number">Amount</th><th>Unit</th><th class="number">Price</th><th class="number">Dollars</th></tr></thead>
      <tbody>${plan.costs.month_at_rest.items.map((/** @type {any} */ row) => html`<tr><td>${row.name}</td><td class="number">${row.amount}</td><td>${row.unit}</td><td class="number">${row.price}</td><td class="number">${dollars(row.dollars)}</td></tr>`)}</tbody>
    </table></div>
    <h3>A million calls</h3>
    <div class="wide" tabindex="0"><table>
      <thead><tr><th>Model</th><th>Version</th><th>Via</th><th class="number">Dollars</th></tr></thead>
      <tbody>${plan.costs.million_calls.map((/** @type {any} */ row) => html`<tr><td>${row.model}</td><td>${row.version}</td><td>${row.via}</td><td class="number">${dollars(row.dollars)}</td></tr>`)}</tbody>
    </table></div>
    <details><summary>Assumptions</summary><ul>${plan.costs.assumptions.map((/** @type {string} */ text) => html`<li>${text}</li>`)}</ul></details>
    <h3>Functions</h3>
    <div class="wide" tabindex="0"><table>
      <thead><tr><th>Function</th><th>Architecture</th><th class="number">Memory</th><th class="number">Timeout</th><th>Warm-up</th></tr></thead>
      <tbody>${plan.functions.slice(0, 200).map((/** @type {any} */ row) => html`<tr><td><code>${row.name}</code></td><td>${row.architecture}</td><td class="number">${count(row.memory_mb)} MB</td><td class="number">${row.timeout_s} s</td><td>${row.warm || '-'}</td></tr>`)}</tbody>
    </table></div>
    <h3>Routes</h3>
    <div class="wide" tabindex="0"><table>
      <thead><tr><th>API</th><th>Method</th><th>Path</th><th>Function</th><th>Kind</th></tr></thead>
      <tbody>${plan.operations.map((/** @type {any} */ row) => html`<tr><td>${row.api}</td><td>${row.method}</td><td><code>${row.path}</code></td><td><code>${row.function}</code></td><td>${row.kind.replaceAll('_', ' ')}</td></tr>`)}</tbody>
    </table></div>
    ${plan.operations.length < plan.routes && html`<p class="muted small">${count(plan.operations.length)} of ${count(plan.routes)}. <code>turnout plan --json</code> has all.</p>`}
  </section>`;
}
