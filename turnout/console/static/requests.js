// @ts-check
// Requests that the server kept: look at one, send it again, save it as an example, replay all of them.
import { Fragment, getJson, getRows, html, postJson, useEffect, useState } from './lib.js';
import { Answer } from './tryit.js';
import { Copied } from './dialogs.js';
import { Differences } from './differences.js';
import { clock, count, size } from './format.js';

const STATUSES = [['', 'any'], ['answered', 'answered'], ['refused', 'refused (4xx)'], ['failed', 'failed (5xx)']];
const SHARES = [['', 'any'], ['baseline', 'baseline'], ['canary', 'canary']];
const EMPTY = { stage: '', model: '', version: '', share: '', caller: '', status: '', slower_ms: '' };

/** @param {any} filter @param {string} [prefix] */
const queryOf = (filter, prefix = '') => new URLSearchParams(Object.entries(filter).map(([name, value]) => [prefix + name, String(value)])).toString();

/** @param {{state: any, stage: string, caller: string, onDone: (sentence: string) => void}} props */
export function Requests({ state, stage: named, caller, onDone }) {
  const [filter, setFilter] = useState({ ...EMPTY, stage: named, caller });
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState('');
  const [opened, setOpened] = useState('');
  const [report, setReport] = useState(/** @type {any} */ (null));
  const [onlyDisagreeing, setOnly] = useState(false);
  const [looks, setLooks] = useState(0);
  useEffect(() => {
    let current = true;
    getJson(`/requests?${queryOf(filter)}`)
      .then((answer) => current && (setFound(answer), setProblem('')))
      .catch((error) => current && setProblem(error.message));
    return () => {
      current = false;
    };
  }, [JSON.stringify(filter), looks]);
  const choose = (/** @type {any} */ change) => {
    setFilter({ ...filter, ...change });
    setReport(null);
    setOnly(false);
  };
  const model = state.models.find((/** @type {any} */ row) => row.name === filter.model);
  const agreement = new Map((report?.requests || []).map((/** @type {any} */ row) => [row.key, row.agrees]));
  const callers = [...new Set(state.stages.filter((/** @type {any} */ row) => ['', row.name].includes(filter.stage)).flatMap((/** @type {any} */ row) => row.consumers.map((/** @type {any} */ consumer) => consumer.name)))].sort();
  const hasCallers = state.stages.some((/** @type {any} */ row) => row.consumers.length > 0);
  const rows = (found?.rows || []).filter((/** @type {any} */ row) => !onlyDisagreeing || agreement.get(row.key) === false);
  return html`<section aria-labelledby="requests-title">
    <div class="bar"><h2 id="requests-title">Requests</h2><span class="muted" role="status">${!found ? !problem && 'Reading...' : `${count(rows.length)} shown of ${count(found.kept)} kept`}</span><button onClick=${() => setLooks(looks + 1)}>Refresh</button></div>
    <div role="alert">${problem && html`<p class="problem">${problem}</p>`}</div>
    ${found && html`<${Sources} sources=${found.sources} />`}
    <div class="choose">
      <${Choice} label="Stage" value=${filter.stage} options=${[['', 'any'], ...state.stages.map((/** @type {any} */ row) => [row.name, row.name])]} onChange=${(/** @type {string} */ stage) => choose({ stage, caller: '' })} />
      <${Choice} label="Model" value=${filter.model} options=${[['', 'any'], ...state.models.map((/** @type {any} */ row) => [row.name, row.name])]} onChange=${(/** @type {string} */ name) => choose({ model: name, version: '' })} />
      <${Choice} label="Version" value=${filter.version} options=${[['', 'any'], ...(model?.versions || []).map((/** @type {any} */ row) => [row.name, row.name])]} onChange=${(/** @type {string} */ version) => choose({ version })} />
      <${Choice} label="Share" value=${filter.share} options=${SHARES} onChange=${(/** @type {string} */ share) => choose({ share })} />
      ${hasCallers && html`<${Choice} label="Caller" value=${filter.caller} options=${[['', 'any'], ...callers.map((name) => [name, name])]} onChange=${(/** @type {string} */ name) => choose({ caller: name })} />`}
      <${Choice} label="Status" value=${filter.status} options=${STATUSES} onChange=${(/** @type {string} */ status) => choose({ status })} />
      <label>Slower than <input type="number" min="0" step="any" value=${filter.slower_ms} onInput=${(/** @type {any} */ event) => choose({ slower_ms: event.target.value })} /> ms</label>
      <label><input type="checkbox" checked=${onlyDisagreeing} disabled=${!report} onChange=${(/** @type {any} */ event) => setOnly(event.target.checked)} /> Disagreeing only</label>
    </div>
    ${model && model.versions.length > 1 && found?.wanted > 0 && html`<${Replay} key=${model.name} filter=${filter} model=${model} stage=${filter.stage || state.stages[0].name} report=${report} onReport=${setReport} />`}
    ${!model && found?.kept > 0 && html`<p class="muted small">Choose a model to replay its requests on another version and to see which disagree.</p>`}
    ${rows.length > 0 && html`<div class="wide" tabindex="0"><table class="requests">
      <thead><tr><th>Time (UTC)</th><th>Stage</th><th>Model</th><th>Version</th><th>Share</th>${hasCallers && html`<th>Caller</th>`}<th class="number">Status</th><th class="number">Took</th><th class="number">Body</th><th>Agrees</th><th><span class="hidden">Action</span></th></tr></thead>
      <tbody>${rows.map((/** @type {any} */ row) => html`<${Fragment} key=${row.key}>
        <tr><td class="nowrap">${clock(row.time)}</td><td>${row.stage}</td><td>${row.model}</td><td>${row.version}</td><td>${row.share}</td>${hasCallers && html`<td>${row.caller || '-'}</td>`}
          <td class="number"><span class=${`badge ${row.status < 400 ? 'successful' : 'failed'}`}>${row.status}</span></td><td class="number">${Number(row.duration_ms.toPrecision(3))} ms</td><td class="number">${size(row.size_bytes)}</td>
          <td>${{ true: 'yes', false: html`<span class="badge failed">no</span>`, null: 'not compared' }[/** @type {'true'} */ (String(agreement.get(row.key)))] || '-'}</td>
          <td><button aria-expanded=${opened === row.key ? 'true' : 'false'} onClick=${() => setOpened(opened === row.key ? '' : row.key)}>${opened === row.key ? 'Close' : 'Open'}</button></td></tr>
        ${opened === row.key && html`<tr class="opened"><td colspan=${hasCallers ? 11 : 10}><${Kept} row=${row} state=${state} shown=${report?.shown.find((/** @type {any} */ pair) => pair.key === row.key)} onDone=${onDone} /></td></tr>`}
      <//>`)}</tbody>
    </table></div>`}
    ${found && !rows.length && found.kept > 0 && html`<p class="muted">No request matches.</p>`}
  </section>`;
}

/** @param {{label: string, value: string, options: string[][], onChange: (value: string) => void}} props */
const Choice = ({ label, value, options, onChange }) => html`<label>${label} <select value=${value} onChange=${(/** @type {any} */ event) => onChange(event.target.value)}>${options.map(([name, text]) => html`<option value=${name} selected=${name === value}>${text}</option>`)}</select></label>`;

/** @param {{sources: any}} props */
function Sources({ sources }) {
  if (sources.logs && !sources.capture) return html`<p class="muted small">${sources.logs}</p>`;
  if (sources.capture && !sources.is_readable) return html`<p>${sources.capture} is not a regular file: only the program that reads it has the requests.</p>`;
  if (sources.capture) return html`<p class="muted small">The latest of ${sources.capture}${sources.sampled.length > 0 && `, and what was sampled for the canary of ${sources.sampled.join(', ')}`}. ${sources.logs}</p>`;
  if (sources.sampled.length) return html`<p class="muted small">Sampled for the canary of ${sources.sampled.join(', ')} in the last ten minutes. <code>turnout serve --capture FILE</code> keeps every request.</p>`;
  return html`<p>The server keeps no requests. <code>turnout serve --capture FILE</code> keeps them all; for a canary with <code>agreement</code> in its judgement, the server samples some of them.</p>`;
}

/** One request: its body, its answer from any version, and its way into the examples. @param {any} props */
function Kept({ row, state, shown, onDone }) {
  const [body, setBody] = useState(/** @type {any} */ (null));
  const [version, setVersion] = useState('');
  const [answer, setAnswer] = useState(/** @type {any} */ (null));
  const [example, setExample] = useState({ name: `request of ${clock(row.time)}`, version: row.version });
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    getJson(`/request?key=${row.key}`).then(setBody).catch((error) => setProblem(error.message));
  }, [row.key]);
  const names = (state.models.find((/** @type {any} */ model) => model.name === row.model)?.versions || []).map((/** @type {any} */ found) => found.name);
  const during = async (/** @type {() => Promise<void>} */ work) => {
    setBusy(true);
    setProblem('');
    try {
      await work();
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
    }
    setBusy(false);
  };
  const send = () => during(async () => {
    const found = await getJson(`/resend?${queryOf({ key: row.key, stage: row.stage, version })}`);
    setAnswer({ ...found, json: null });
  });
  const save = (/** @type {Event} */ event) => {
    event.preventDefault();
    during(async () => onDone((await postJson('/example', { key: row.key, model: row.model, ...example })).sentence));
  };
  return html`<div class="kept">
    <h3>Request</h3>
    ${body ? html`<pre tabindex="0">${pretty(body)}</pre>
      ${body.binary_bytes > 0 && html`<p class="muted small">And ${size(body.binary_bytes)} of binary tensors.</p>`}
      ${body.redacted.length > 0 && html`<p class="muted small">Redacted when it was kept: ${body.redacted.join(', ')}.</p>`}` : html`<p class="muted">Reading...</p>`}
    ${shown && html`<h3>Both answers</h3><${Differences} pair=${shown} />`}
    <div class="buttons left">
      <${Choice} label="Send again to" value=${version} options=${[['', `what ${row.stage} serves`], ...names.map((/** @type {string} */ name) => [name, name])]} onChange=${setVersion} />
      <button disabled=${busy} onClick=${send}>Send again</button>
    </div>
    ${answer && html`<div aria-live="polite"><${Answer} answer=${answer} other=${null} /></div>`}
    ${state.may_write && html`<form class="buttons left" onSubmit=${save}>
      <label>Example <input value=${example.name} onInput=${(/** @type {any} */ event) => setExample({ ...example, name: event.target.value })} /></label>
      <${Choice} label="of" value=${example.version} options=${names.map((/** @type {string} */ name) => [name, name])} onChange=${(/** @type {string} */ name) => setExample({ ...example, version: name })} />
      <button disabled=${busy || !example.name.trim()}>Save as example</button>
    </form>`}
    <div role="alert">${problem && html`<p class="problem">${problem}</p>`}</div>
  </div>`;
}

/** @param {any} body */
function pretty(body) {
  if (body.is_cut) return `${body.body}\n...`;
  try {
    JSON.parse(body.body);
    return body.body.length < 2000 ? body.body : `${body.body.slice(0, 2000)}...`;
  } catch {
    return body.body;
  }
}

/** Replay the requests in sight on two versions. @param {any} props */
function Replay({ filter, model, stage, report, onReport }) {
  const names = model.versions.map((/** @type {any} */ row) => row.name);
  const [done, setDone] = useState(/** @type {any} */ (null));
  const [canary, setCanary] = useState(names[names.length - 1]);
  const [baseline, setBaseline] = useState('');
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const start = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setProblem('');
    setDone(null);
    onReport(null);
    try {
      const found = await getRows(`/compare?${queryOf({ stage, model: model.name, canary, baseline })}&${queryOf(filter, 'of_')}`, (row) => row.of && setDone(row));
      if (!found.requests) throw new Error('The server stopped before the end.');
      onReport(found);
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
    }
    setBusy(false);
  };
  return html`<form class="buttons left" onSubmit=${start}>
      <${Choice} label="Replay these on" value=${canary} options=${names.map((/** @type {string} */ name) => [name, name])} onChange=${setCanary} />
      <${Choice} label="compared with" value=${baseline} options=${[['', 'the version that answered'], ...names.filter((/** @type {string} */ name) => name !== canary).map((/** @type {string} */ name) => [name, name])]} onChange=${setBaseline} />
      <button class="main" disabled=${busy}>${busy ? 'Replaying...' : 'Replay'}</button>
    </form>
    ${busy && done && html`<p class="small"><progress max=${done.of} value=${done.done} aria-label="Replayed"></progress>${count(done.done)} of ${count(done.of)}</p>`}
    <div role="alert">${problem && html`<p class="problem">${problem}</p>`}</div>
    ${report && html`<${Report} report=${report} />`}`;
}

/** What a replay comes to. @param {{report: any}} props */
function Report({ report }) {
  const [address, setAddress] = useState('');
  useEffect(() => {
    const made = URL.createObjectURL(new Blob([report.html], { type: 'text/html' }));
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [report]);
  const share = report.agreement === null ? 'Nothing could be compared.' : `${(Math.floor(report.agreement * 10000) / 100).toFixed(2)}% agree: ${count(report.agreed)} of ${count(report.compared)} requests.`;
  const ms = (/** @type {number | null} */ value) => (value === null ? '-' : value.toFixed(2));
  return html`<div class="report" role="status">
    <p class="verdict">${share}</p>
    ${report.problem && html`<p class="problem">${report.problem}</p>`}
    ${report.notes && html`<p class="muted small">${report.notes}</p>`}
    <div class="wide" tabindex="0"><table>
      <thead><tr><th>Version</th><th class="number">Requests</th><th class="number">Errors</th><th class="number">p50 ms</th><th class="number">p95 ms</th><th class="number">p99 ms</th></tr></thead>
      <tbody>${report.versions.map((/** @type {any} */ row) => html`<tr><th scope="row">${row.version}</th><td class="number">${count(row.requests)}</td><td class="number">${count(row.errors)}</td><td class="number">${ms(row.p50_ms)}</td><td class="number">${ms(row.p95_ms)}</td><td class="number">${ms(row.p99_ms)}</td></tr>`)}</tbody>
    </table></div>
    ${report.outputs.length > 0 && html`<div class="wide" tabindex="0"><table>
      <thead><tr><th>Output</th><th>Rule</th><th class="number">Agree</th><th class="number">Largest difference</th></tr></thead>
      <tbody>${report.outputs.map((/** @type {any} */ row) => html`<tr><th scope="row"><code>${row.name}</code></th><td>${row.measure}</td><td class="number">${count(row.agreed)} of ${count(row.compared)}</td><td class="number">${row.max_absolute === null ? '-' : Number(row.max_absolute.toPrecision(3))}</td></tr>`)}</tbody>
    </table></div>`}
    <p><a href=${address} download="replay.html">Download the report</a></p>
    ${report.command && html`<p class="muted small">The same for the whole capture:</p><${Copied} text=${report.command} />`}
  </div>`;
}
