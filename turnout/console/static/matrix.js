// @ts-check
// Models by stages: what each stage serves of each model, and how much of it is asked for.
import { html, useEffect, useRef, useState } from './lib.js';
import { Sparkline } from './charts.js';
import { figureOf } from './figures.js';
import { clock, duration, percent, rate, size } from './format.js';

const ROW = 57;
const AROUND = 8;

/** @param {{state: any, history: any[], wanted: string, onStage: (stage: string) => void, onModel: (model: string, version?: string) => void}} props */
export function Matrix({ state, history, wanted: named, onStage, onModel }) {
  const [filter, setFilter] = useState('');
  const [opened, setOpened] = useState('');
  const [top, setTop] = useState(0);
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  // A model that was jumped to is opened, and brought into sight.
  useEffect(() => {
    if (!named) return;
    setFilter('');
    setOpened(named);
    const at = state.models.findIndex((/** @type {any} */ model) => model.name === named);
    if (at >= 0) requestAnimationFrame(() => window.scrollTo(0, Math.max(0, (scroller.current?.getBoundingClientRect().top || 0) + window.scrollY + at * ROW - 100)));
  }, [named]);
  const wanted = filter.trim().toLowerCase();
  const models = state.models.filter((/** @type {any} */ model) => !wanted || model.name.includes(wanted) || model.description.toLowerCase().includes(wanted));
  useEffect(() => {
    const look = () => setTop(Math.max(0, Math.floor((window.scrollY - (scroller.current?.offsetTop || 0)) / ROW)));
    window.addEventListener('scroll', look, { passive: true });
    return () => window.removeEventListener('scroll', look);
  }, []);
  // Only the rows in sight are drawn: a thousand models are as fast as ten.
  const many = models.length > 60;
  const from = many ? Math.min(Math.max(0, top - AROUND), Math.max(0, models.length - 1)) : 0;
  const to = many ? from + Math.ceil(window.innerHeight / ROW) + 2 * AROUND : models.length;
  return html`<section aria-labelledby="models-title">
    <div class="bar">
      <h2 id="models-title">Models</h2>
      <label class="filter">Filter <input type="search" value=${filter} onInput=${(/** @type {any} */ event) => setFilter(event.target.value)} placeholder="name or description" /></label>
      <span class="muted">${models.length === state.models.length ? "" : `${models.length} of `}${state.models.length} ${state.models.length === 1 ? "model" : "models"}</span>
    </div>
    <div class="wide" ref=${scroller}>
      <table class="matrix">
        <thead>
          <tr>
            <th scope="col">Model</th>
            ${state.stages.map((/** @type {any} */ stage) => html`<th scope="col"><button class="link" onClick=${() => onStage(stage.name)}>${stage.name}</button>${stage.canary && html` <span class="badge canary">canary ${percent(stage.canary.percent)}</span>`}</th>`)}
            <th scope="col" class="number">Requests/s</th><th scope="col" class="number">p50</th><th scope="col" class="number">p99</th><th scope="col" class="number">Errors</th><th scope="col"><span class="hidden">Last 15 minutes</span></th>
          </tr>
        </thead>
        <tbody>
          ${from > 0 && html`<tr aria-hidden="true"><td class="space" colspan=${state.stages.length + 6}><svg width="1" height=${from * ROW}></svg></td></tr>`}
          ${models.slice(from, to).map((/** @type {any} */ model) => html`<${ModelRow} key=${model.name} model=${model} state=${state} history=${history} isOpen=${opened === model.name} onOpen=${() => setOpened(opened === model.name ? '' : model.name)} onStage=${onStage} onModel=${onModel} />`)}
          ${to < models.length && html`<tr aria-hidden="true"><td class="space" colspan=${state.stages.length + 6}><svg width="1" height=${(models.length - to) * ROW}></svg></td></tr>`}
        </tbody>
      </table>
      ${!models.length && html`<p class="muted">No model matches.</p>`}
    </div>
  </section>`;
}

/** @param {any} props */
function ModelRow({ model, state, history, isOpen, onOpen, onStage, onModel }) {
  const figures = figureOf(history, model.name);
  return html`<tr>
      <th scope="row">
        <button class="link" aria-expanded=${isOpen} onClick=${onOpen}>${isOpen ? '▾' : '▸'} ${model.name}</button>
        <div class="muted small clip" title=${model.description}>${model.description || (model.graph ? 'graph' : '')}</div>
      </th>
      ${state.stages.map((/** @type {any} */ stage) => html`<td>${stage.cells[model.name] && html`<${SplitBar} cell=${stage.cells[model.name]} label=${`${model.name} in ${stage.name}`} onClick=${() => onStage(stage.name)} />`}</td>`)}
      <td class="number">${figures ? rate(figures.perSecond) : '-'}</td>
      <td class="number">${figures ? duration(figures.p50) : '-'}</td>
      <td class="number">${figures ? duration(figures.p99) : '-'}</td>
      <td class=${`number ${figures?.errors ? 'bad-text' : ''}`}>${figures ? (figures.errors ? percent(figures.errors) : '0%') : '-'}</td>
      <td>${figures && html`<${Sparkline} values=${figures.line} label=${`Requests per second of ${model.name}`} />`}</td>
    </tr>
    ${isOpen &&
    html`<tr class="opened"><td colspan=${state.stages.length + 6}>
      <table>
        <thead><tr><th>Version</th><th>Digest</th><th class="number">Size</th><th>Runs on</th><th>Inputs</th><th>Outputs</th><th class="number">Requests/s</th><th class="number">p50</th><th class="number">p99</th><th class="number">Errors</th><th><span class="hidden">Action</span></th></tr></thead>
        <tbody>
          ${model.versions.map((/** @type {any} */ version) => html`<tr>
            <td>${version.name} ${version.flags.map((/** @type {string} */ flag) => html`<span class="badge">${flag}</span> `)}<div class="muted small">${version.description}</div>${version.source && html`<${Source} source=${version.source} />`}</td>
            <td>${version.digest ? html`<${Digest} of=${`${model.name} ${version.name}`} digest=${version.digest} />` : '-'}</td>
            <td class="number">${size(version.size_bytes)}</td>
            <td class="small">${version.architecture}<div class="muted">${version.memory_mb} MB, ${version.timeout_s} s</div></td>
            <td class="small">${tensors(version.signature?.inputs)}</td>
            <td class="small">${tensors(version.signature?.outputs)}</td>
            <${Figures} rows=${[['', `${model.name} ${version.name}`], ...state.stages.map((/** @type {any} */ stage) => [stage.name, `${model.name} ${version.name} ${stage.name}`])]} history=${history} />
            <td><button onClick=${() => onModel(model.name, version.name)}>Try it</button></td>
          </tr>`)}
          ${model.graph && html`<tr><td>graph</td><td></td><td></td><td></td><td class="small">${tensors(model.graph.inputs)}</td><td class="small">${tensors(model.graph.outputs)}</td><td></td><td></td><td></td><td></td><td><button onClick=${() => onModel(model.name)}>Try it</button></td></tr>`}
        </tbody>
      </table>
      ${figures && figures.minutes.length > 0 && html`<details><summary>Requests/s of the last 15 minutes</summary><table class="minutes"><thead><tr><th>Until (UTC)</th><th class="number">Requests/s</th></tr></thead><tbody>${figures.minutes.map((/** @type {any} */ point) => html`<tr key=${point.time}><td>${clock(point.time).slice(11)}</td><td class="number">${rate(point.perSecond)}</td></tr>`)}</tbody></table></details>`}
    </td></tr>`}`;
}

/** A version's figures: of all stages, and of each that has requests. @param {{rows: string[][], history: any[]}} props */
function Figures({ rows, history }) {
  const found = rows.map(([stage, key]) => ({ stage, figures: figureOf(history, key) })).filter((row) => row.figures);
  // With one stage, the sum says it all.
  const shown = found.length > 2 ? found : found.slice(0, 1);
  const column = (/** @type {(figures: any) => any} */ show) => html`<td class="number">${shown.length ? shown.map((row) => html`<div>${row.stage && html`<span class="muted small">${row.stage} </span>`}${show(row.figures)}</div>`) : '-'}</td>`;
  return html`${column((figures) => rate(figures.perSecond))}${column((figures) => duration(figures.p50))}${column((figures) => duration(figures.p99))}${column((figures) => html`<span class=${figures.errors ? 'bad-text' : ''}>${percent(figures.errors)}</span>`)}`;
}

/** A digest, short, with a button that copies all of it. @param {{of: string, digest: string}} props */
function Digest({ of, digest }) {
  const [copied, setCopied] = useState(false);
  const copy = () => navigator.clipboard.writeText(digest).then(() => setCopied(true));
  return html`<code title=${digest}>${digest.slice(0, 12)}</code> <button class="link small" aria-label=${`Copy the digest of ${of}`} onClick=${copy}>${copied ? 'Copied' : 'Copy'}</button>`;
}

/** Where a version came from. @param {{source: any}} props */
function Source({ source }) {
  const packages = Object.entries(source.packages || {}).map(([name, version]) => `${name} ${version}`).join(', ');
  const details = [source.revision && `revision ${source.revision}`, source.converter && `converted by ${source.converter}`, source.date].filter(Boolean).join(', ');
  return html`<div class="muted small" title=${packages}>from <code>${source.address}</code>${details && `, ${details}`}</div>`;
}

/** @param {any[] | undefined} list */
const tensors = (list) => (list || []).map((tensor) => html`<div><code>${tensor.name}</code> ${tensor.datatype} [${tensor.shape === null ? '...' : tensor.shape.join(', ')}]</div>`);

/** A stage's split of one model. @param {{cell: any, label: string, onClick: () => void}} props */
export function SplitBar({ cell, label, onClick }) {
  const text = cell.parts.length === 1 ? cell.parts[0].version : cell.parts.map((/** @type {any} */ part) => `${part.version} ${percent(part.percent)}`).join(' · ');
  let x = 0;
  return html`<button class="split" onClick=${onClick} aria-label=${`${label}: ${text}`}>
    <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
      <defs><pattern id="stripes" width="4" height="8" patternUnits="userSpaceOnUse" patternTransform="skewX(-20)"><rect width="4" height="8" class="stripe-back" /><rect width="2" height="8" class="stripe" /></pattern></defs>
      ${cell.parts.map((/** @type {any} */ part, /** @type {number} */ index) => {
        const bar = html`<rect x=${x} y="0" width=${Math.max(part.percent - 0.5, 0.5)} height="8" class=${`part ${part.kind} shade${index % 3}`} />`;
        x += part.percent;
        return bar;
      })}
    </svg>
    <span>${text}${cell.shadow && html` <span class="muted" title="gets copies of the requests">◯ ${cell.shadow}</span>`}${cell.fallback && html` <span class="muted" title="answers where the version fails">↩ ${cell.fallback}</span>`}</span>
  </button>`;
}
