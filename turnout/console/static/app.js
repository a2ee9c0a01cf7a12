// @ts-check
// The page: reads the state, follows the events, and shows what the address behind `#` names.
import { Fragment, follow, getJson, html, render, useEffect, useRef, useState } from './lib.js';
import { Matrix } from './matrix.js';
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
        history.current = [...history.current.slice(-KEPT), found];
        collectEvidence(evidence.current, found.canaries);
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
  if (!state) return html`<p class="loading" role="status">${problem || 'Loading the console...'}</p>`;
  const stage = where.stage && state.stages.find((/** @type {any} */ row) => row.name === where.stage);
  const problems = [...state.problems, ...(problem ? [problem] : []), ...(pulse?.warning ? [pulse.warning] : [])];
  const done = (/** @type {string} */ sentence) => {
    setMessage(sentence);
    load();
  };
  return html`<${Fragment}>
    <header>
      <h1><a href="#">Turnout</a></h1>
      <span class="project">${state.platform || state.folder}</span>
      <span class="muted">${state.place}</span>
      ${!state.may_write && html`<span class="badge">read-only</span>`}
      <nav aria-label="Views"><a href="#" aria-current=${where.view === '' ? 'page' : null}>Models</a> <a href="#plan" aria-current=${where.view === 'plan' ? 'page' : null}>Plan</a> <a href="#requests" aria-current=${where.view === 'requests' ? 'page' : null}>Requests</a> <a href="#try" aria-current=${where.view === 'try' ? 'page' : null}>Try it</a>${state.is_served_here && html` <a href="/docs">API</a>`}</nav>
      <span class=${`live ${isLive ? 'on' : ''}`} role="status">${isLive ? 'live' : 'no data'}</span>
    </header>
    <main>
      ${problems.length > 0 && html`<div class="problems" role="alert"><strong>Something is wrong.</strong><ul>${problems.map((text) => html`<li>${text}</li>`)}</ul></div>`}
      <div role="status" class="message">${message && html`<p>${message} <button class="link" onClick=${() => setMessage('')}>Dismiss</button></p>`}</div>
      ${stage && html`<${StagePanel} key=${stage.name} stage=${stage} state=${state} pulse=${pulse} evidence=${evidence.current} onClose=${() => go('')} onDone=${done} />`}
      ${where.view === 'try' && html`<${TryIt} state=${state} model=${where.model} version=${where.version} />`}
      ${where.view === 'plan' && html`<${Plan} generation=${state.generation} />`}
      ${where.view === 'requests' && html`<${Requests} state=${state} onDone=${done} />`}
      ${(where.view === '' || where.view === 'stage') && html`<${Matrix} state=${state} history=${history.current} onStage=${(/** @type {string} */ name) => go(`stage/${name}`)} onModel=${(/** @type {string} */ model, /** @type {string} */ version) => go(`try/${model}${version ? `/${version}` : ''}`)} />`}
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

const VIEWS = ['plan', 'requests', 'stage', 'try'];

/** What the address behind `#` names: `stage/dev`, `try/iris/v1`; the models where it names nothing. */
function readAddress() {
  const [name, first = '', second = ''] = decodeURIComponent(location.hash.slice(1)).split('/');
  const view = VIEWS.includes(name) ? name : '';
  return { view, stage: view === 'stage' ? first : '', model: view === 'try' ? first : '', version: view === 'try' ? second : '' };
}

/** @param {string} place */
const go = (place) => {
  location.hash = place;
};

render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById('app')));
