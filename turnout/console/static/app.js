// @ts-check
// The page: reads the state, follows the events, and shows what the address behind `#` names.
import { Fragment, follow, getJson, html, render, useEffect, useMemo, useRef, useState } from './lib.js';
import { Matrix } from './matrix.js';
import { withTraffic } from './figures.js';
import { clock } from './format.js';
import { Jump } from './jump.js';
import { Plan } from './plan.js';
import { Requests } from './requests.js';
import { StagePanel } from './stage.js';
import { TryIt } from './tryit.js';

const KEPT = 900;

function App() {
  const [state, setState] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState('');
  const [pulse, setPulse] = useState(/** @type {any} */ (null));
  const [isLive, setLive] = useState(false);
  const [where, setWhere] = useState(readAddress());
  const [message, setMessage] = useState('');
  const history = useRef(/** @type {any[]} */ ([]));
  const shares = useRef(/** @type {any} */ ({}));
  const evidence = useRef(/** @type {any} */ ({}));
  const generation = useRef('');
  const runs = useRef('');
  const load = () =>
    getJson('/state')
      .then((found) => {
        generation.current = found.generation;
        setState(found);
        setProblem('');
      })
      .catch((error) => setProblem(error.message));
  useEffect(() => {
    load();
    const moved = () => setWhere(readAddress());
    window.addEventListener('hashchange', moved);
    const stop = follow(
      (found) => {
        setLive(true);
        history.current = withTraffic(history.current, found.traffic);
        collectEvidence(evidence.current, found.canaries);
        collectShares(shares.current, found);
        setPulse(found);
        const driven = Object.entries(found.runs).filter(([, run]) => /** @type {any} */ (run).is_driven).map(([stage]) => stage).join();
        if (generation.current && (found.generation !== generation.current || driven !== runs.current)) load();
        runs.current = driven;
      },
      () => setLive(false),
    );
    return () => {
      window.removeEventListener('hashchange', moved);
      stop();
    };
  }, []);
  const done = (/** @type {string} */ sentence) => {
    setMessage(sentence);
    load();
  };
  // Nothing here depends on the pulse: drawn anew each second, a large request in Try it would take all of the time.
  const view = useMemo(() => {
    if (state && where.view === 'try') return html`<${TryIt} state=${state} model=${where.model} version=${where.version} />`;
    if (state && where.view === 'plan') return html`<${Plan} generation=${state.generation} />`;
    if (state && where.view === 'requests') return html`<${Requests} key=${`${where.stage} ${where.caller}`} state=${state} stage=${where.stage} caller=${where.caller} onDone=${done} />`;
    return null;
  }, [state, where]);
  if (!state) return html`<p class="loading" role="status">${problem || 'Loading the console...'}</p>`;
  const stage = where.view === 'stage' && state.stages.find((/** @type {any} */ row) => row.name === where.stage);
  const problems = [...state.problems, ...(problem ? [problem] : []), ...(pulse?.warning ? [pulse.warning] : []), ...differencesOf(pulse)];
  return html`<${Fragment}>
    <header>
      <h1><a href="#">Turnout</a></h1>
      <span class="project">${state.platform || state.folder}</span>
      <span class="muted">${state.place}</span>
      ${!state.may_write && html`<span class="badge">read-only</span>`}
      <nav aria-label="Views"><a href="#" aria-current=${['', 'model', 'stage'].includes(where.view) ? 'page' : null}>Models</a> <a href="#plan" aria-current=${where.view === 'plan' ? 'page' : null}>Plan</a> <a href="#requests" aria-current=${where.view === 'requests' ? 'page' : null}>Requests</a> <a href="#try" aria-current=${where.view === 'try' ? 'page' : null}>Try it</a>${state.is_served_here && html` <a href="/docs">API</a>`}</nav>
      <span class="pick"><select aria-label="Go to a stage" value=${stage ? stage.name : ''} onChange=${(/** @type {any} */ event) => go(event.target.value && `stage/${event.target.value}`)}><option value="" selected=${!stage}>all stages</option>${state.stages.map((/** @type {any} */ row) => html`<option value=${row.name} selected=${stage?.name === row.name}>${row.name}</option>`)}</select></span>
      <${Jump} models=${state.models} onModel=${(/** @type {string} */ name) => go(`model/${name}`)} />
      <span class="live-data"><span class="muted small">${state.who}</span> <span class=${`live ${isLive ? 'on' : ''}`} role="status">${isLive ? 'live' : 'no data'}</span> ${pulse && html`<span class="muted small">${clock(pulse.time).slice(11)} UTC</span>`}</span>
    </header>
    <main>
      ${problems.length > 0 && html`<div class="problems" role="alert"><strong>Something is wrong.</strong><ul>${problems.map((text) => html`<li>${text}</li>`)}</ul></div>`}
      <div role="status" class="message">${message && html`<p>${message} <button class="link" onClick=${() => setMessage('')}>Dismiss</button></p>`}</div>
      ${stage && html`<${StagePanel} key=${stage.name} stage=${stage} state=${state} pulse=${pulse} evidence=${evidence.current} history=${history.current} seen=${shares.current[stage.name] || []} onClose=${() => go('')} onDone=${done} />`}
      ${view}
      ${(where.view === '' || where.view === 'stage' || where.view === 'model') && html`<${Matrix} state=${state} history=${history.current} wanted=${where.model} onStage=${(/** @type {string} */ name) => go(`stage/${name}`)} onModel=${(/** @type {string} */ model, /** @type {string} */ version) => go(`try/${model}${version ? `/${version}` : ''}`)} />`}
    </main>
    <footer class="muted small">Turnout ${state.turnout}. The same in a terminal: <code>turnout canary</code>, <code>turnout models</code>, <code>turnout plan</code>.</footer>
  <//>`;
}

/** Keep the evidence of each check as it grows. @param {any} kept @param {any} canaries */
function collectEvidence(kept, canaries) {
  for (const [stage, report] of Object.entries(canaries || {})) {
    const checks = (kept[stage] ||= {});
    for (const check of /** @type {any} */ (report).checks || []) {
      if (!check.evidence) continue;
      const points = (checks[check.name] ||= []);
      const last = points[points.length - 1];
      if (last && check.evidence.count < last.count) points.length = 0;
      if (!points.length || check.evidence.count > points[points.length - 1].count) points.push(check.evidence);
      if (points.length > KEPT) points.splice(0, points.length - KEPT);
    }
  }
}

const SLICE_S = 15;

/** Keep the requests and errors of both shares, one point in 15 s. @param {any} kept @param {any} pulse */
function collectShares(kept, pulse) {
  for (const [stage, report] of Object.entries(pulse.canaries || {})) {
    const { shares, since } = /** @type {any} */ (report);
    if (!shares?.canary) continue;
    const points = (kept[stage] ||= []);
    const start = since ? `${since.time} ${since.action}` : '';
    const last = points[points.length - 1];
    // Another canary, or a server that has restarted, counts from zero.
    if (last && (last.start !== start || last.canary.requests > shares.canary.requests || last.baseline.requests > shares.baseline.requests)) points.length = 0;
    const point = { time: pulse.time, start, baseline: shares.baseline, canary: shares.canary };
    if (points.length > 1 && pulse.time - points[points.length - 2].time < SLICE_S) points[points.length - 1] = point;
    else points.push(point);
    if (points.length > 61) points.splice(0, points.length - 61);
  }
}

/** Where models.yaml, the stages and Pulumi differ, in the words of `turnout canary status`. @param {any} pulse @returns {string[]} */
const differencesOf = (pulse) => Object.entries({ ...pulse?.differences, ...Object.fromEntries(Object.entries(pulse?.canaries || {}).map(([stage, report]) => [stage, /** @type {any} */ (report).warnings || []])) }).flatMap(([stage, warnings]) => warnings.map((/** @type {string} */ text) => `${stage}: ${text}`));

const VIEWS = ['model', 'plan', 'requests', 'stage', 'try'];

/** What the address behind `#` names: `stage/dev`, `try/iris/v1`, `requests/prod/shop`; the models where it names nothing. */
function readAddress() {
  const [name, first = '', second = ''] = decodeURIComponent(location.hash.slice(1)).split('/');
  const view = VIEWS.includes(name) ? name : '';
  return { view, stage: view === 'stage' || view === 'requests' ? first : '', caller: view === 'requests' ? second : '', model: view === 'try' || view === 'model' ? first : '', version: view === 'try' ? second : '' };
}

/** @param {string} place */
const go = (place) => {
  location.hash = place;
};

render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById('app')));
