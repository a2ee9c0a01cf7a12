// @ts-check
// A dialog per action: what happens to whom, what changes in models.yaml and on the stage, and the same as a command.
import { html, postJson, useEffect, useRef, useState } from './lib.js';
import { percent } from './format.js';

const TITLES = { start: 'Start a canary', set: 'Change the share', run: 'Run through the steps', promote: 'Promote', rollback: 'Roll back', return: 'Return to what was served before' };

/** @param {{action: string, model: string, stage: any, state: any, onClose: () => void, onDone: (sentence: string) => void}} props */
export function ActionDialog({ action, model, stage, state, onClose, onDone }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [serve, setServe] = useState(/** @type {Record<string, string>} */ (model ? { [model]: '' } : {}));
  const [share, setShare] = useState(String(stage.routed[model]?.percent ?? stage.canary?.percent ?? 10));
  const [steps, setSteps] = useState((stage.canary?.steps || []).join(', '));
  const [bake, setBake] = useState(stage.canary ? bakeText(stage.canary.bake_minutes) : '');
  const [typed, setTyped] = useState('');
  const [shown, setShown] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const wish = { action, stage: stage.name, serve, percent: Number(share), generation: state.generation, typed, ...(action === 'run' && { steps, bake }) };
  const incomplete = (action === 'start' && !Object.keys(serve).length) || ((action === 'start' || action === 'set') && !(share !== '' && Number(share) >= 0 && Number(share) <= 100));
  useEffect(() => dialog.current?.showModal(), []);
  useEffect(() => {
    let current = true;
    setShown(null);
    setProblem('');
    if (incomplete) return undefined;
    const timer = setTimeout(() => {
      postJson('/preview', wish)
        .then((found) => current && setShown(found))
        .catch((error) => current && setProblem(error.message));
    }, 150);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [JSON.stringify(serve), share, steps, bake, state.generation]);
  const act = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const done = await postJson('/act', wish);
      onDone(done.sentence);
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
      setBusy(false);
    }
  };
  const mustType = shown?.must_type;
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${onClose}>
    <form method="dialog" onSubmit=${act}>
      <h2 id="dialog-title">${TITLES[/** @type {keyof typeof TITLES} */ (action)]}: ${stage.name}${model && `, ${model}`}</h2>
      ${action === 'start' && html`<${Choices} stage=${stage} state=${state} serve=${serve} onChange=${setServe} />`}
      ${(action === 'start' || action === 'set') && html`<label>Share of the ${model ? `requests to ${model}` : "stage's requests"} <input type="number" min="0" max="100" step="any" value=${share} onInput=${(/** @type {any} */ event) => setShare(event.target.value)} /> %</label>`}
      ${action === 'run' && html`<div class="choose"><label>Steps in percent <input value=${steps} placeholder="5, 25, 50" onInput=${(/** @type {any} */ event) => setSteps(event.target.value)} /></label>
        <label>Minimum time per step <input value=${bake} placeholder="90s, 10m or 1h" onInput=${(/** @type {any} */ event) => setBake(event.target.value)} /></label></div>`}
      ${shown && html`<p class="says">Then ${shown.sentence}</p>
        <h3>models.yaml</h3>${shown.diff ? html`<pre class="diff" tabindex="0">${diffLines(shown.diff)}</pre>` : html`<p class="muted">Not changed.</p>`}
        <h3>UpdateStage</h3>${shown.operations.length ? html`<pre tabindex="0">${shown.operations.map((/** @type {any[]} */ call) => call.map((row) => JSON.stringify(row)).join('\n')).join('\n\nthen\n\n')}</pre>` : html`<p class="muted">The stage is not changed.</p>`}
        <h3>The same as a command</h3><${Copied} text=${shown.command} />`}
      ${!shown && !problem && html`<p class="muted">${incomplete ? 'Choose a version and a share.' : 'Preparing the preview...'}</p>`}
      ${mustType && html`<label>Type <strong>${stage.name}</strong> to confirm <input name="typed" autocomplete="off" value=${typed} onInput=${(/** @type {any} */ event) => setTyped(event.target.value)} /></label>`}
      <div role="alert">${problem && html`<p class="problem">${problem}</p>`}</div>
      <div class="buttons">
        <button type="button" onClick=${() => dialog.current?.close()}>Cancel</button>
        <button type="submit" class="main" disabled=${busy || !shown || (mustType && typed !== stage.name)}>${busy ? 'Working...' : confirmText(action, share)}</button>
      </div>
    </form>
  </dialog>`;
}

/** @param {number} minutes */
const bakeText = (minutes) => (minutes >= 1 ? `${minutes}m` : `${Number((minutes * 60).toFixed(3))}s`);

/** @param {string} action @param {string} share */
const confirmText = (action, share) => ({ start: `Start at ${percent(Number(share))}`, set: `Set to ${percent(Number(share))}`, run: 'Start the run', promote: 'Promote', rollback: 'Roll back', return: 'Return' })[action];

const MOST_CHOICES = 10;

/** @param {any} props */
function Choices({ stage, state, serve, onChange }) {
  const choose = (/** @type {string} */ model, /** @type {string} */ version) => {
    const next = { ...serve };
    if (version) next[model] = version;
    else delete next[model];
    onChange(next);
  };
  const [filter, setFilter] = useState('');
  const hasCanary = (/** @type {string} */ name) => stage.cells[name].parts.some((/** @type {any} */ part) => part.kind === 'canary');
  const models = state.models.filter((/** @type {any} */ model) => model.versions.length > 1 && stage.cells[model.name] && !hasCanary(model.name));
  if (!models.length) return html`<p>No model that ${stage.name} serves has another version. Add one: <code>turnout add MODEL VERSION FILE</code></p>`;
  // Of many models, those that are chosen, and the first of those that match.
  const wanted = filter.trim().toLowerCase();
  const matching = models.filter((/** @type {any} */ model) => !serve[model.name] && model.name.includes(wanted));
  const shown = models.length > MOST_CHOICES ? [...models.filter((/** @type {any} */ model) => serve[model.name]), ...matching.slice(0, MOST_CHOICES)] : models;
  return html`<fieldset class="choices"><legend>What the canary serves</legend>
    ${models.length > MOST_CHOICES && html`<label>Find a model <input type="search" value=${filter} onInput=${(/** @type {any} */ event) => setFilter(event.target.value)} /> <span class="muted">${Math.min(matching.length, MOST_CHOICES)} of ${matching.length}</span></label>`}
    ${shown.map((/** @type {any} */ model) => {
      const served = stage.cells[model.name].parts.map((/** @type {any} */ part) => part.version);
      return html`<label key=${model.name}>${model.name} <span class="muted">now ${served.join(', ')}</span>
        <select value=${serve[model.name] || ''} onChange=${(/** @type {any} */ event) => choose(model.name, event.target.value)}>
          <option value="">unchanged</option>
          ${model.versions.filter((/** @type {any} */ version) => served.length > 1 || version.name !== served[0]).map((/** @type {any} */ version) => html`<option value=${version.name}>${version.name}</option>`)}
        </select></label>`;
    })}
  </fieldset>`;
}

/** @param {string} diff */
export const diffLines = (diff) => diff.split('\n').map((line) => html`<span class=${line.startsWith('+') && !line.startsWith('+++') ? 'added' : line.startsWith('-') && !line.startsWith('---') ? 'removed' : ''}>${`${line}\n`}</span>`);

/** A text that can be copied. @param {{text: string}} props */
export function Copied({ text }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<div class="copied"><pre tabindex="0">${text}</pre><button type="button" onClick=${copy}>${copied ? 'Copied' : 'Copy'}</button></div>`;
}
