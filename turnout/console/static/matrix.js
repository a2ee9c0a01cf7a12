// @ts-check
// Models by stages: what each stage serves of each model, and how much of it is asked for.
import { html, useEffect, useMemo, useRef, useState } from './lib.js';
import { Sparkline } from './charts.js';
import { between, duration, percent, quantile, rate, size, sum } from './format.js';

const ROW = 57;
const AROUND = 8;

/** @param {{state: any, history: any[], onStage: (stage: string) => void, onModel: (model: string, version?: string) => void}} props */
export function Matrix({ state, history, onStage, onModel }) {
  const [filter, setFilter] = useState('');
  const [opened, setOpened] = useState('');
  const [top, setTop] = useState(0);
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  const figures = useMemo(() => figuresOf(history), [history]);
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
          ${models.slice(from, to).map((/** @type {any} */ model) => html`<${ModelRow} key=${model.name} model=${model} state=${state} figures=${figures.get(model.name)} isOpen=${opened === model.name} onOpen=${() => setOpened(opened === model.name ? '' : model.name)} onStage=${onStage} onModel=${onModel} />`)}
          ${to < models.length && html`<tr aria-hidden="true"><td class="space" colspan=${state.stages.length + 6}><svg width="1" height=${(models.length - to) * ROW}></svg></td></tr>`}
        </tbody>
      </table>
      ${!models.length && html`<p class="muted">No model matches.</p>`}
    </div>
  </section>`;
}

/** @param {any} props */
function ModelRow({ model, state, figures, isOpen, onOpen, onStage, onModel }) {
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
        <thead><tr><th>Version</th><th>Digest</th><th class="number">Size</th><th>Inputs</th><th>Outputs</th><th><span class="hidden">Action</span></th></tr></thead>
        <tbody>
          ${model.versions.map((/** @type {any} */ version) => html`<tr>
            <td>${version.name} ${version.flags.map((/** @type {string} */ flag) => html`<span class="badge">${flag}</span> `)}<div class="muted small">${version.description}</div>${version.source && html`<${Source} source=${version.source} />`}</td>
            <td><code title=${version.digest}>${version.digest.slice(0, 12) || '-'}</code></td>
            <td class="number">${size(version.size_bytes)}</td>
            <td class="small">${tensors(version.signature?.inputs)}</td>
            <td class="small">${tensors(version.signature?.outputs)}</td>
            <td><button onClick=${() => onModel(model.name, version.name)}>Try it</button></td>
          </tr>`)}
          ${model.graph && html`<tr><td>graph</td><td></td><td></td><td class="small">${tensors(model.graph.inputs)}</td><td class="small">${tensors(model.graph.outputs)}</td><td><button onClick=${() => onModel(model.name)}>Try it</button></td></tr>`}
        </tbody>
      </table>
    </td></tr>`}`;
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

/** Requests per second, latency and errors of each model over what the page has seen. @param {any[]} history */
function figuresOf(history) {
  /** @type {Map<string, any>} */
  const figures = new Map();
  const seen = history.filter((pulse) => pulse.traffic);
  if (!seen.length) return figures;
  const last = seen[seen.length - 1].traffic;
  const start = seen.find((pulse) => pulse.traffic.run === last.run && last.time - pulse.traffic.time <= 900).traffic;
  const before = seen.slice(-11).find((pulse) => pulse.traffic.run === last.run).traffic;
  for (const model of new Set(last.rows.map((/** @type {any} */ row) => row.model))) {
    const of = (/** @type {any} */ traffic) => sum(traffic.rows.filter((/** @type {any} */ row) => row.model === model));
    const total = of(last);
    const recent = between(total, of(before));
    const shown = seen.length > 1 ? between(total, of(start)) : total;
    const known = shown.requests ? shown : total;
    const line = [];
    for (let index = Math.max(1, seen.length - 60); index < seen.length; index++) {
      const [now, then] = [seen[index].traffic, seen[index - 1].traffic];
      if (now.run === then.run) line.push(between(of(now), of(then)).requests / Math.max(0.1, now.time - then.time));
    }
    figures.set(/** @type {string} */ (model), {
      perSecond: recent.requests / Math.max(1, last.time - before.time),
      p50: quantile(known.durations, last.bounds_s, 0.5),
      p99: quantile(known.durations, last.bounds_s, 0.99),
      errors: known.requests ? (100 * known.errors) / known.requests : 0,
      line,
    });
  }
  return figures;
}
