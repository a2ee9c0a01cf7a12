// @ts-check
// One stage: its canary with verdict and evidence, its history, and what may be done with it.
import { getRows, html, postJson, useEffect, useRef, useState } from './lib.js';
import { ErrorHistogram, EvidenceChart, LatencyHistogram } from './charts.js';
import { Differences } from './differences.js';
import { ActionDialog, diffLines } from './dialogs.js';
import { callerKey, figureOf } from './figures.js';
import { clock, count, duration, moment, percent, rate, span } from './format.js';

const WORDS = { start: 'Start a canary', set: 'Set percent', run: 'Run', promote: 'Promote', rollback: 'Roll back', return: 'Return' };

/** @param {{stage: any, state: any, pulse: any, evidence: any, history: any[], seen: any[], onClose: () => void, onDone: (sentence: string) => void}} props */
export function StagePanel({ stage, state, pulse, evidence, history, seen, onClose, onDone }) {
  const [action, setAction] = useState('');
  const [model, setModel] = useState('');
  const open = (/** @type {string} */ name, /** @type {string} */ of = '') => {
    setModel(of);
    setAction(name);
  };
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => heading.current?.focus(), [stage.name]);
  const report = pulse?.canaries?.[stage.name];
  const run = pulse?.runs?.[stage.name];
  const finished = (/** @type {string} */ sentence) => {
    setAction('');
    onDone(sentence);
  };
  return html`<section class="panel" aria-labelledby="stage-title">
    <div class="bar">
      <h2 id="stage-title" tabindex="-1" ref=${heading}>Stage ${stage.name}</h2>
      <span class="muted">auth ${stage.auth}${stage.throttle && `, ${stage.throttle.rate}/s, burst ${stage.throttle.burst}`}</span>
      <button class="close" onClick=${onClose}>Close</button>
    </div>
    <div class="buttons left">
      ${stage.actions.map((/** @type {any} */ row) => (row.action !== 'return' || row.allowed) && html`<span class="action">
        <button disabled=${!row.allowed} title=${row.reason || row.note} onClick=${() => open(row.action)}>${WORDS[/** @type {keyof typeof WORDS} */ (row.action)]}</button>
      </span>`)}
    </div>
    <p class="muted small">${[...new Set(stage.actions.filter((/** @type {any} */ row) => !row.allowed && row.action !== 'return').map((/** @type {any} */ row) => row.reason))].join(' ')}</p>
    ${run && html`<${Run} stage=${stage} run=${run} now=${pulse.time} mayWrite=${state.may_write} onDone=${onDone} />`}
    ${stage.canary ? html`<${Canary} stage=${stage} run=${run} report=${report} evidence=${evidence[stage.name] || {}} seen=${seen} isLocal=${state.is_local} />` : !Object.keys(stage.routed).length && html`<p>${stage.name} has no canary. Every request sees what the stage serves.</p>`}
    <${Canaries} stage=${stage} report=${report} mayWrite=${state.may_write} onAct=${open} />
    ${!stage.canary && report && Object.keys(stage.routed).length > 0 && html`<${Evidence} report=${report} evidence=${evidence[stage.name] || {}} points=${seen} />`}
    ${Object.entries(stage.routed).map(([model, routed]) => html`<${Disagreements} key=${`${model} ${/** @type {any} */ (routed).version}`} stage=${stage.name} model=${model} version=${/** @type {any} */ (routed).version} baseline=${baselineOf(stage, model)} isLocal=${state.is_local} />`)}
    ${stage.consumers.length > 0 && html`<${Consumers} stage=${stage} traffic=${pulse?.traffic} history=${history} isLocal=${state.is_local} />`}
    <${History} rows=${stage.history} />
    ${action && html`<${ActionDialog} action=${action} model=${model} stage=${stage} state=${state} onClose=${() => setAction('')} onDone=${finished} />`}
  </section>`;
}

const PHASES = { baking: 'The canary is being observed', waiting: 'Not enough evidence yet' };

/** Where a run is, or how it ended. @param {any} props */
function Run({ stage, run, now, mayWrite, onDone }) {
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const stop = async () => {
    setBusy(true);
    setProblem('');
    try {
      onDone((await postJson('/stop-run', { stage: stage.name })).sentence);
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
    }
    setBusy(false);
  };
  const left = Math.max(0, run.step_started_s + run.bake_s - now);
  return html`<div class=${`run ${run.is_driven ? 'on' : ''}`} role="group" aria-label="Run">
    ${run.is_over ? html`<p class="says">${run.ending}</p>` : run.is_driven ? html`<p class="says">Run: step ${run.step + 1} of ${run.steps.length}, ${percent(run.percent)}. ${PHASES[/** @type {keyof typeof PHASES} */ (run.phase)] || run.phase}${left > 0 ? `, for at least ${span(left)} more` : ''}.</p>
      <progress max=${run.bake_s || 1} value=${run.bake_s - left} aria-label="Minimum time at this step"></progress>` : html`<p class="says">A run is at step ${run.step + 1} of ${run.steps.length}, ${percent(run.percent)}, and no console drives it. ${run.ending}</p><p class="muted small">It was stopped, or it runs in a terminal. <em>Run</em> continues it from this step.</p>`}
    ${!run.is_over && run.reason && html`<p>${run.reason}.</p>`}
    ${run.problem && html`<p class="problem">${run.problem}</p>`}
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${run.is_driven && mayWrite && html`<button disabled=${busy} onClick=${stop}>${busy ? 'Stopping...' : 'Stop the run'}</button>`}
  </div>`;
}

/** Each model with a canary by itself, where there are several or its router splits its requests. @param {any} props */
function Canaries({ stage, report, mayWrite, onAct }) {
  const rows = report?.canaries || [];
  if (rows.length < 2 && !Object.keys(stage.routed).length) return '';
  return html`<h3>Canaries of models</h3>
    <div class="wide"><table class="canaries">
      <thead><tr><th>Model</th><th>Canary</th><th class="number">Share</th><th class="number">Requests</th><th class="number">Error rate</th><th>Verdict</th><th></th></tr></thead>
      <tbody>${rows.map((/** @type {any} */ row) => html`<tr key=${row.model}>
        <th scope="row">${row.model || 'all'}</th><td><strong>${row.canary}</strong> instead of ${row.baseline}</td><td class="number">${percent(row.percent)}${row.routed && html` <span class="badge">routed</span>`}</td>
        <td class="number">${row.shares.canary ? `${count(row.shares.canary.requests)} of ${count(row.shares.canary.requests + row.shares.baseline.requests)}` : '-'}</td><td class="number">${row.shares.canary?.requests ? percent((100 * row.shares.canary.errors) / row.shares.canary.requests) : '-'}</td>
        <td>${row.verdict ? html`<span class=${`badge ${row.verdict}`}>${row.verdict}</span>` : '-'}<div class="muted small">${row.checks.map((/** @type {any} */ check) => html`<div>${check.name}: ${check.sentence}.</div>`)}</div></td>
        <td>${mayWrite && row.model && html`<div class="buttons left">${['set', 'promote', 'rollback'].map((name) => html`<button disabled=${!!stage.blocked} title=${stage.blocked} aria-label=${`${WORDS[/** @type {keyof typeof WORDS} */ (name)]}: ${row.model}`} onClick=${() => onAct(name, row.model)}>${WORDS[/** @type {keyof typeof WORDS} */ (name)]}</button>`)}</div>`}</td></tr>`)}</tbody>
    </table></div>`;
}

/** @param {any} props */
function Canary({ stage, run, report, evidence, seen: points, isLocal }) {
  const canary = stage.canary;
  const { observed, low, high } = report?.share || {};
  return html`<div>
    <p class=${`verdict ${report?.verdict || ''}`}>${report?.verdict ? `Verdict: ${report.verdict}` : 'Nothing observed yet.'}</p>
    <ol class="track">${[...(run?.steps || (canary.steps.length ? canary.steps : [canary.percent])), 100].map((/** @type {number} */ step) => html`<li class=${step < canary.percent ? 'done' : step === canary.percent ? 'current' : ''} aria-current=${step === canary.percent ? 'step' : null}>${percent(step)}</li>`)}</ol>
    <dl class="facts">
      <div><dt>Canary</dt><dd>${Object.entries(canary.serve).map(([model, version]) => html`<div>${model} <strong>${/** @type {any} */ (version)}</strong> instead of ${report?.canary?.models?.[model]?.baseline || '-'}</div>`)}${canary.release && html`<div>the new release</div>`}</dd></div>
      <div><dt>Configured share</dt><dd>${percent(canary.percent)}</dd></div>
      <div><dt>Measured share</dt><dd>${observed == null ? '-' : html`${percent(observed)} <span class="muted small">expected ${percent(low)} to ${percent(high)} (99%)</span>`}</dd></div>
      <div><dt>Bake</dt><dd>${canary.bake_minutes} min a step</dd></div>
    </dl>
    <${Evidence} report=${report} evidence=${evidence} points=${points} />
    ${Object.entries(canary.serve).map(([model, version]) => html`<${Disagreements} key=${`${model} ${version}`} stage=${stage.name} model=${model} version=${version} baseline=${baselineOf(stage, model)} isLocal=${isLocal} />`)}
    ${(report?.warnings || []).length > 0 && html`<div class="warnings"><h3>Warnings</h3><ul>${report.warnings.map((/** @type {string} */ text) => html`<li>${text}</li>`)}</ul></div>`}
  </div>`;
}

/** What was observed of both shares, and the evidence of each check. @param {any} props */
function Evidence({ report, evidence, points }) {
  const shares = report?.shares || {};
  const total = (shares.baseline?.requests || 0) + (shares.canary?.requests || 0);
  return html`<div>
    ${total > 0 && html`<div class="wide"><table class="shares">
      <thead><tr><th>Share</th><th class="number">Requests</th><th class="number">Errors</th><th class="number">Error rate</th><th class="number">p50</th><th class="number">p99</th></tr></thead>
      <tbody>${['baseline', 'canary'].map((name) => html`<tr><th scope="row"><span class=${`key ${name}`}></span>${name}</th><td class="number">${count(shares[name].requests)}</td><td class="number">${count(shares[name].errors)}</td><td class="number">${shares[name].requests ? percent((100 * shares[name].errors) / shares[name].requests) : '-'}</td><td class="number">${duration(shares[name].p50_s)}</td><td class="number">${duration(shares[name].p99_s)}</td></tr>`)}</tbody>
    </table></div>
    <h3>Latency</h3><${LatencyHistogram} shares=${shares} bounds=${report.bounds_s || []} />
    <h3>Errors</h3><${ErrorHistogram} points=${points} />`}
    <div class="checks">
      ${(report?.checks || []).map((/** @type {any} */ check) => html`<article class="check">
        <h3>${check.name} <span class=${`badge ${check.verdict}`}>${check.verdict}</span></h3>
        <p>${check.sentence}.</p>
        ${check.evidence && html`<${EvidenceChart} points=${evidence[check.name] || [check.evidence]} label=${`${check.name}: evidence for successful ${check.evidence.successful.toFixed(1)}, for failed ${check.evidence.failed.toFixed(1)}, enough is ${check.evidence.enough.toFixed(1)}`} />
        <details><summary>The numbers</summary><table><thead><tr><th class="number">Requests</th><th class="number">For successful</th><th class="number">For failed</th><th class="number">Enough</th></tr></thead><tbody>${(evidence[check.name] || [check.evidence]).slice(-20).map((/** @type {any} */ point) => html`<tr><td class="number">${count(point.count)}</td><td class="number">${point.successful.toFixed(2)}</td><td class="number">${point.failed.toFixed(2)}</td><td class="number">${point.enough.toFixed(2)}</td></tr>`)}</tbody></table></details>`}
      </article>`)}
    </div>
  </div>`;
}

/** The version that most of a stage's baseline sees. @param {any} stage @param {string} model */
const baselineOf = (stage, model) => stage.cells[model].parts.filter((/** @type {any} */ part) => part.kind !== 'canary').sort((/** @type {any} */ one, /** @type {any} */ other) => other.percent - one.percent)[0].version;

const FEW = 20;
const MANY = 200;

/** Requests that were kept of late, answered by both versions: those about which they disagree. @param {any} props */
function Disagreements({ stage, model, version, baseline, isLocal }) {
  const [report, setReport] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(isLocal);
  const compare = (/** @type {number} */ limit) => {
    setBusy(true);
    const query = new URLSearchParams({ stage, model, canary: version, baseline, of_stage: stage, of_model: model, limit: String(limit) });
    return getRows(`/compare?${query}`, () => {})
      .then((found) => (found.requests ? (setReport(found), setProblem('')) : setProblem('The server stopped before the end.')))
      .catch((error) => setProblem(error.message))
      .then(() => setBusy(false));
  };
  // A few at once; more cost the models' time, and are compared on demand. So are all of a stack's: they
  // are requests to its functions, which CloudWatch counts.
  useEffect(() => {
    if (isLocal) compare(FEW);
  }, []);
  const sent = report?.requests.length || 0;
  return html`<div class="disagreements">
    <h3>${model}: requests on which ${baseline} and ${version} disagree</h3>
    <div role="status">${problem ? html`<p class="muted">${problem}</p>` : !report ? html`<p class="muted">${busy ? 'Comparing...' : 'Not compared yet.'}</p>` : sent === 0 && report.notes ? html`<p class="muted">No requests of ${stage} can be compared. ${report.notes}</p>` : sent === 0 ? html`<p class="muted">No requests of ${stage} are kept. <code>turnout serve --capture FILE</code> keeps them; with <code>agreement</code> in the canary's judgement, the server samples some of them.</p>` : html`<p>${report.compared - report.agreed} of the latest ${count(report.compared)} disagree.${report.undecided > 0 && ` ${count(report.undecided)} could not be compared.`} ${report.problem} <span class="muted small">${report.notes}</span></p>`}</div>
    ${(report?.shown || []).map((/** @type {any} */ pair, /** @type {number} */ index) => html`<details key=${pair.key} open=${index === 0}><summary>${clock(pair.time)} UTC: ${pair.outputs.filter((/** @type {any} */ row) => !row.agrees).map((/** @type {any} */ row) => row.name).join(', ') || 'only one version answers'}</summary>${pair.body && html`<pre tabindex="0">${pair.body}</pre>`}<${Differences} pair=${pair} /></details>`)}
    ${(report ? !problem && (sent > 0 || busy) : !isLocal) && html`<div class="buttons left"><button disabled=${busy} onClick=${() => compare(report ? MANY : FEW)}>${busy ? 'Comparing...' : `Compare the latest ${report ? MANY : FEW}`}</button></div>`}
  </div>`;
}

/** The stage's consumers: their limits and their traffic. @param {{stage: any, traffic: any, history: any[], isLocal: boolean}} props */
function Consumers({ stage, traffic, history, isLocal }) {
  const counted = new Map((traffic?.callers || []).filter((/** @type {any} */ row) => row.stage === stage.name).map((/** @type {any} */ row) => [row.caller, row]));
  const today = new Date().toISOString().slice(0, 10);
  return html`<h3>Consumers</h3>
    <div class="wide" tabindex="0"><table class="consumers">
      <thead><tr><th>Consumer</th><th>Models</th><th>Throttle</th><th>Quota</th><th>Expires</th><th>Keys</th>${isLocal && html`<th class="number">Requests</th><th class="number">Requests/s</th><th class="number">p50</th><th class="number">p99</th><th class="number">4xx</th><th class="number">429</th><th class="number">5xx</th>`}</tr></thead>
      <tbody>${stage.consumers.map((/** @type {any} */ row) => {
        const sums = counted.get(row.name);
        const figure = figureOf(history, callerKey(stage.name, row.name));
        return html`<tr key=${row.name}><th scope="row"><a href=${`#requests/${stage.name}/${row.name}`}>${row.name}</a></th><td>${row.models ? row.models.join(', ') : 'all'}</td>
          <td>${row.rate ? `${row.rate}/s, burst ${row.burst}` : '-'}</td><td>${row.quota ? `${count(row.quota.requests)} a ${row.quota.period}` : '-'}</td>
          <td class="nowrap">${row.expires || '-'}${row.expires && row.expires <= today && html` <span class="badge failed">expired</span>`}</td><td>${row.keys.join(', ') || "the stage's"}</td>
          ${isLocal && html`<td class="number">${count(sums?.requests || 0)}</td><td class="number">${figure ? rate(figure.perSecond) : '-'}</td><td class="number">${duration(figure?.p50)}</td><td class="number">${duration(figure?.p99)}</td><td class="number">${count(sums?.refused || 0)}</td><td class="number">${count(sums?.throttled || 0)}</td><td class="number">${count(sums?.errors || 0)}</td>`}</tr>`;
      })}</tbody>
    </table></div>
    <p class="muted small">${isLocal ? 'Counted since the start of the server. ' : "Requests of each consumer are in the stage's access log (`caller`). "}Each name links to the kept requests of the consumer.</p>`;
}

/** @param {{rows: any[]}} props */
function History({ rows }) {
  return html`<h3>History</h3>
    ${rows.length === 0 ? html`<p class="muted">No canary commands are recorded for this stage.</p>` : html`<div class="wide"><table class="history">
      <thead><tr><th>Time</th><th>Who</th><th>Action</th><th>Versions</th><th class="number">Share</th><th>Verdict</th><th>models.yaml</th></tr></thead>
      <tbody>${[...rows].reverse().map((row) => html`<tr key=${row.time + row.action}>
        <td class="nowrap">${moment(row.time)}</td><td>${row.who}</td><td>${row.action}${row.run && html` <span class="badge">run</span>`}${!row.done && html` <span class="badge failed">interrupted</span>`}${row.note && html`<div class="muted small">${row.note}</div>`}</td>
        <td>${Object.entries(row.to).map(([model, version]) => html`<div>${model} ${row.from[model]} → ${/** @type {any} */ (version)}</div>${Object.entries(row.digests?.[model] || {}).map(([name, digest]) => html`<div class="muted small">${name} <code>${/** @type {any} */ (digest)}</code></div>`)}`)}</td>
        <td class="number">${percent(row.percent)}</td><td>${row.verdict || '-'}</td>
        <td>${row.diff ? html`<details><summary>Diff</summary><pre class="diff" tabindex="0">${diffLines(row.diff)}</pre></details>` : html`<span class="muted small">${row.manifest[0] === row.manifest[1] ? 'unchanged' : 'diff not recorded'}</span>`}</td></tr>`)}</tbody>
    </table></div>`}`;
}
