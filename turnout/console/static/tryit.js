// @ts-check
// Send a request to one version, or to two beside each other: from fields, a table, a file, a picture, or JSON.
import { getJson, html, useEffect, useRef, useState } from './lib.js';
import { makeBinary } from './binary.js';
import { Copied } from './dialogs.js';
import { Field } from './field.js';
import { readJson, spell } from './json.js';
import { Output } from './outputs.js';
import { snippets } from './snippets.js';
import { fromTable, makeRequest, toTable } from './tensors.js';

const BINARY_BYTES = 1_000_000;
const SNIPPET_BYTES = 20_000;
const MOST_SHOWN = 100_000;

/** @param {{state: any, model: string, version: string}} props */
export function TryIt({ state, model, version }) {
  const chosen = state.models.find((/** @type {any} */ row) => row.name === model) || state.models[0];
  if (!chosen) return html`<section><p>There is no model yet.</p></section>`;
  if (!state.is_served_here) return html`<section><p>Requests can be sent from the console of <code>turnout serve</code>. On AWS, use <code>turnout invoke ${chosen.name} --url URL</code>.</p></section>`;
  return html`<${Form} key=${`${chosen.name} ${version}`} state=${state} model=${chosen} version=${version} />`;
}

/** @param {any} props */
function Form({ state, model, version }) {
  const names = model.versions.map((/** @type {any} */ row) => row.name);
  const [stage, setStage] = useState(state.stages[0]?.name || '');
  const [first, setFirst] = useState(names.includes(version) ? version : '');
  const [second, setSecond] = useState('');
  const [fields, setFields] = useState(/** @type {Record<string, {text: string, shape: string}>} */ ({}));
  const [files, setFiles] = useState(/** @type {Record<string, any>} */ ({}));
  const [json, setJson] = useState('');
  const [headers, setHeaders] = useState('');
  const [tab, setTab] = useState('form');
  const [examples, setExamples] = useState(/** @type {any[]} */ ([]));
  const [problem, setProblem] = useState('');
  const [answers, setAnswers] = useState(/** @type {any[]} */ ([]));
  const [isComparing, setComparing] = useState(false);
  const [busy, setBusy] = useState(false);
  // A sample that arrives late does not replace text that the user has begun to write.
  const isWritten = useRef(false);
  const served = servedBy(state, stage, model.name);
  const described = model.versions.find((/** @type {any} */ row) => row.name === (first || served)) || model.versions[model.versions.length - 1];
  const signature = (first ? described?.signature : model.graph || described?.signature) || described?.signature || model.graph;
  const fieldsOf = (/** @type {any[]} */ inputs) => Object.fromEntries(inputs.map((input) => [input.name, { text: toTable(input, signature.inputs.find((/** @type {any} */ tensor) => tensor.name === input.name)?.datatype), shape: input.shape.join(', ') }]));
  /** @param {any} request */
  const fill = (request) => {
    setJson(spell(request, 1));
    setFiles({});
    setAnswers([]);
    const inputs = inputsOf(request, signature);
    if (inputs) setFields(fieldsOf(inputs));
    setTab(inputs ? 'form' : 'json');
    setProblem('');
  };
  useEffect(() => {
    getJson(`/sample?model=${encodeURIComponent(model.name)}&version=${encodeURIComponent(described?.name || '')}`)
      .then((found) => {
        setExamples(found.examples);
        if (!isWritten.current) fill(found.request);
      })
      .catch((error) => setProblem(error.message));
  }, [model.name, described?.name]);
  const values = () => {
    const inputs = signature.inputs.filter((/** @type {any} */ tensor) => files[tensor.name] || (fields[tensor.name]?.text || '').trim() !== '');
    return inputs.map((/** @type {any} */ tensor) => {
      const file = files[tensor.name];
      if (file?.problem) throw new Error(file.problem);
      return { tensor, value: file?.value || fromTable(fields[tensor.name].text, tensor, shapeOfText(fields[tensor.name].shape, tensor)) };
    });
  };
  const isForm = tab === 'form' && signature;
  const body = () => (isForm ? spell(makeRequest(values())) : json);
  const change = (/** @type {string} */ name, /** @type {any} */ next) => {
    isWritten.current = true;
    const { [name]: _, ...others } = files;
    setFiles(others);
    setFields({ ...fields, [name]: { text: '', shape: '', ...fields[name], ...next } });
    setProblem('');
  };
  const send = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setProblem('');
    try {
      const text = body();
      readJson(text);
      const binary = isForm && text.length > BINARY_BYTES ? makeBinary(values()) : null;
      const { key } = await getJson(`/key?stage=${encodeURIComponent(stage)}`);
      const sent = { 'content-type': 'application/json', ...(key && { 'x-api-key': key }), ...Object.fromEntries(headersOf(headers)), ...(binary && { 'content-type': 'application/octet-stream', 'inference-header-content-length': String(binary.headLength) }) };
      const targets = isComparing ? [first, second] : [first];
      setAnswers(await Promise.all(targets.map((name) => call(stage, model.name, name, binary ? binary.body : text, sent, outputsOf(model, name, signature)))));
      remember(model.name, text);
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
    }
    setBusy(false);
  };
  const show = (/** @type {string} */ next) => {
    try {
      if (next === 'json' && tab === 'form') setJson(spell(readJson(body()), 1));
      if (next === 'form' && tab === 'json') {
        const inputs = inputsOf(readJson(json), signature);
        if (!inputs) throw new Error('This JSON is in a form that the fields cannot show. Send it as it is.');
        setFiles({});
        setFields(fieldsOf(inputs));
      }
      setTab(next);
      setProblem('');
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
    }
  };
  const path = pathOf(stage, model.name, first);
  const compare = (/** @type {string} */ name) => {
    setComparing(name !== 'nothing');
    setSecond(name === 'nothing' || name === 'stage' ? '' : name.slice(1));
  };
  const tries = triesOf(model.name);
  const auth = state.stages.find((/** @type {any} */ row) => row.name === stage)?.auth;
  return html`<section aria-labelledby="try-title">
    <h2 id="try-title">Try it</h2>
    <form onSubmit=${send}>
      <div class="choose">
        <label>Model <select value=${model.name} onChange=${(/** @type {any} */ event) => (location.hash = `try/${event.target.value}`)}>${state.models.map((/** @type {any} */ row) => html`<option value=${row.name} selected=${row.name === model.name}>${row.name}</option>`)}</select></label>
        <label>Stage <select value=${stage} onChange=${(/** @type {any} */ event) => setStage(event.target.value)}>${state.stages.map((/** @type {any} */ row) => html`<option value=${row.name}>${row.name}</option>`)}</select></label>
        <label>Version <select value=${first} onChange=${(/** @type {any} */ event) => setFirst(event.target.value)}>${['', ...names].map((name) => html`<option value=${name}>${name || 'what the stage serves'}</option>`)}</select></label>
        <label>Compare with <select value=${!isComparing ? 'nothing' : second ? `v${second}` : 'stage'} onChange=${(/** @type {any} */ event) => compare(event.target.value)}>${[['nothing', 'nothing'], ['stage', 'what the stage serves'], ...names.map((/** @type {string} */ name) => [`v${name}`, name])].map(([value, name]) => html`<option value=${value}>${name}</option>`)}</select></label>
      </div>
      ${examples.length > 0 && html`<div class="chips" role="group" aria-label="Examples">${examples.map((/** @type {any} */ example) => html`<button type="button" class="chip" onClick=${() => fill(example.request)}>${example.name}</button>`)}</div>`}
      <div class="tabs" role="tablist" aria-label="Request as">${[['form', 'Form'], ['json', 'JSON']].map(([name, label]) => html`<button type="button" role="tab" aria-selected=${tab === name ? 'true' : 'false'} onClick=${() => show(name)}>${label}</button>`)}</div>
      ${isForm ? signature.inputs.map((/** @type {any} */ tensor) => html`<${Field} key=${`${described?.name} ${tensor.name}`} tensor=${tensor} text=${fields[tensor.name]?.text || ''} shape=${fields[tensor.name]?.shape || ''} file=${files[tensor.name]} onText=${(/** @type {string} */ text) => change(tensor.name, { text })} onShape=${(/** @type {string} */ shape) => change(tensor.name, { shape })} onFile=${(/** @type {any} */ file) => { isWritten.current = true; setFiles({ ...files, [tensor.name]: file }); }} onProblem=${setProblem} />`) : html`<label>Request body<textarea class="json" rows="12" spellcheck="false" value=${json} onInput=${(/** @type {any} */ event) => { isWritten.current = true; setJson(event.target.value); }}></textarea></label>`}
      <details><summary>Headers</summary><label>Headers, one per line<textarea rows="2" spellcheck="false" placeholder="x-user-id: 7" value=${headers} onInput=${(/** @type {any} */ event) => setHeaders(event.target.value)}></textarea></label></details>
      <div role="alert">${problem && html`<p class="problem">${problem}</p>`}</div>
      <div class="buttons left"><button type="submit" class="main" disabled=${busy}>${busy ? 'Sending...' : 'Send'}</button><code class="small">POST ${path}</code></div>
    </form>
    <div class="answers" aria-live="polite">${answers.map((/** @type {any} */ answer, /** @type {number} */ index) => html`<${Answer} answer=${answer} other=${index === 1 ? answers[0] : null} />`)}</div>
    <${Snippets} path=${path} body=${body} auth=${auth} headers=${headers} />
    ${tries.length > 0 && html`<details class="tries"><summary>Your last requests</summary><ul>${tries.map((/** @type {any} */ row) => html`<li><button type="button" class="link" onClick=${() => fill(readJson(row.text))}>${row.text.slice(0, 120)}</button></li>`)}</ul></details>`}
  </section>`;
}

/** The request as code; its body is written only when it is looked at. @param {any} props */
function Snippets({ path, body, auth, headers }) {
  const [isOpen, setOpen] = useState(false);
  let text = '';
  /** @type {[string, string][]} */
  let lines = [];
  try {
    text = isOpen ? body() : '';
    lines = headersOf(headers);
  } catch {
    // The form says what is wrong once it is sent.
  }
  const isFile = text.length > SNIPPET_BYTES;
  const programs = text ? snippets({ path, text, auth, headers: lines, isFile }) : [];
  return html`<details class="snippets" onToggle=${(/** @type {any} */ event) => setOpen(event.target.open)}><summary>Copy as code</summary>
    ${isOpen && !programs.length && html`<p class="muted">The request is not complete, or not JSON.</p>`}
    ${isFile && programs.length > 0 && html`<p><a href=${`data:application/json;charset=utf-8,${encodeURIComponent(text)}`} download="request.json">Download request.json</a></p>`}
    ${programs.map(([name, code]) => html`<h3>${name}</h3><${Copied} text=${code} />`)}
  </details>`;
}

/** The version that most requests of a stage see. @param {any} state @param {string} stage @param {string} model */
const servedBy = (state, stage, model) => state.stages.find((/** @type {any} */ row) => row.name === stage)?.cells[model]?.parts[0]?.version;

/** @param {any} model @param {string} name @param {any} signature */
const outputsOf = (model, name, signature) => (model.versions.find((/** @type {any} */ row) => row.name === name)?.signature || signature)?.outputs || [];

/** The shape in a field; null where the declared one says it all. @param {string} text @param {any} tensor */
function shapeOfText(text, tensor) {
  if (text.trim() === '' || (tensor.shape !== null && tensor.shape.length < 3)) return null;
  const lengths = text.replace(/[[\]]/g, '').split(',').filter((part) => part.trim() !== '').map(Number);
  if (lengths.some((length) => !Number.isInteger(length) || length < 0)) throw new Error(`${tensor.name}: the shape is whole numbers separated by commas`);
  return lengths;
}

/** @param {string} text @returns {[string, string][]} */
function headersOf(text) {
  return text.split('\n').filter((line) => line.trim() !== '').map((line) => {
    const [name, ...rest] = line.split(':');
    if (!rest.length || !/^[\w!#$%&'*+.^`|~-]+$/.test(name.trim())) throw new Error(`"${line.trim()}" is no header: write name: value`);
    return [name.trim().toLowerCase(), rest.join(':').trim()];
  });
}

/** @param {string} stage @param {string} model @param {string} version */
const pathOf = (stage, model, version) => `/${[stage, 'models', model, version, 'inference'].filter(Boolean).map(encodeURIComponent).join('/')}`;

/** @param {string} stage @param {string} model @param {string} version @param {BodyInit} body @param {Record<string, string>} headers @param {any[]} declared */
async function call(stage, model, version, body, headers, declared) {
  const began = performance.now();
  const response = await fetch(pathOf(stage, model, version), { method: 'POST', headers, body });
  const text = await response.text();
  let json = null;
  try {
    json = readJson(text);
  } catch {
    // Shown raw.
  }
  return { version: response.headers.get('x-turnout-version') || version, status: response.status, ms: performance.now() - began, headers: [...response.headers], text, json, outputs: tensorsOf(json?.outputs, declared) };
}

/** Outputs in the protocol's form, also of named arrays; null for others. @param {any} outputs @param {any[]} declared */
function tensorsOf(outputs, declared) {
  if (Array.isArray(outputs)) return outputs.every((output) => Array.isArray(output?.data)) ? outputs : null;
  if (!outputs || typeof outputs !== 'object') return null;
  return Object.entries(outputs).map(([name, data]) => ({ name, datatype: declared.find((tensor) => tensor.name === name)?.datatype || '', shape: shapeOf(data), data: [data].flat(Infinity) }));
}

/** @param {{answer: any, other: any}} props */
export function Answer({ answer, other }) {
  const outputs = answer.outputs?.length ? answer.outputs : null;
  return html`<article class="answer">
    <h3>${answer.version || 'Answer'} <span class=${`badge ${answer.status < 400 ? 'successful' : 'failed'}`}>${answer.status}</span> <span class="muted small">${answer.ms.toFixed(0)} ms</span></h3>
    ${outputs ? outputs.map((/** @type {any} */ output) => html`<${Output} output=${output} other=${other?.outputs?.find((/** @type {any} */ row) => row.name === output.name)} />`) : html`<pre tabindex="0">${answer.json ? spell(answer.json, 1) : answer.text}</pre>`}
    <details><summary>Headers and body</summary><pre tabindex="0">${answer.headers.map((/** @type {string[]} */ [name, value]) => `${name}: ${value}`).join('\n')}\n\n${answer.text.slice(0, MOST_SHOWN)}${answer.text.length > MOST_SHOWN && '...'}</pre></details>
  </article>`;
}

/** The inputs of a request in the protocol's form or as named arrays; null for those that fields cannot show. @param {any} request @param {any} signature */
function inputsOf(request, signature) {
  const inputs = request?.inputs;
  // Fields would lose what they do not show: other keys, and tensors that the model does not have.
  if (!signature || !inputs || Object.keys(request).some((key) => key !== 'inputs')) return null;
  const isKnown = (/** @type {string} */ name) => signature.inputs.some((/** @type {any} */ tensor) => tensor.name === name);
  if (Array.isArray(inputs)) return inputs.every((input) => Array.isArray(input?.data) && Array.isArray(input.shape) && isKnown(input.name) && !input.parameters) ? inputs : null;
  if (typeof inputs !== 'object') return null;
  return Object.keys(inputs).every(isKnown) ? Object.entries(inputs).map(([name, data]) => ({ name, shape: shapeOf(data), data })) : null;
}

/** @param {any} data @returns {number[]} */
const shapeOf = (data) => (Array.isArray(data) ? [data.length, ...shapeOf(data[0])] : []);

const TRIES = 'turnout-tries';

/** The last requests of this browser to a model, none of them on the server. @param {string} model @returns {any[]} */
function triesOf(model) {
  try {
    return JSON.parse(localStorage.getItem(TRIES) || '[]').filter((/** @type {any} */ row) => row.model === model);
  } catch {
    return [];
  }
}

/** @param {string} model @param {string} text */
function remember(model, text) {
  try {
    const kept = JSON.parse(localStorage.getItem(TRIES) || '[]').filter((/** @type {any} */ row) => row.text !== text || row.model !== model);
    if (text.length < 20000) localStorage.setItem(TRIES, JSON.stringify([{ model, text }, ...kept].slice(0, 50)));
  } catch {
    // A browser that keeps nothing.
  }
}
