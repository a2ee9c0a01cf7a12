// @ts-check
// Send a request to one version, or to two beside each other: from fields, a table, a file, a picture, or JSON.
import { getJson, html, useEffect, useRef, useState } from './lib.js';
import { Copied } from './dialogs.js';
import { Output } from './outputs.js';
import { fromNpy, fromPixels, fromTable, imageLayout, makeRequest, spell, toTable } from './tensors.js';

/** @param {{state: any, model: string, version: string}} props */
export function TryIt({ state, model, version }) {
  const chosen = state.models.find((/** @type {any} */ row) => row.name === model) || state.models[0];
  if (!chosen) return html`<section><p>There is no model yet.</p></section>`;
  if (!state.is_served_here) return html`<section><p>Requests can be sent from the console of <code>turnout serve</code>. On AWS, use <code>turnout invoke ${chosen.name} --url URL</code>.</p></section>`;
  return html`<${Form} key=${chosen.name} state=${state} model=${chosen} version=${version} />`;
}

/** @param {any} props */
function Form({ state, model, version }) {
  const names = model.versions.map((/** @type {any} */ row) => row.name);
  const [stage, setStage] = useState(state.stages[0]?.name || '');
  const [first, setFirst] = useState(names.includes(version) ? version : '');
  const [second, setSecond] = useState('');
  const [fields, setFields] = useState(/** @type {Record<string, string>} */ ({}));
  const [files, setFiles] = useState(/** @type {Record<string, any>} */ ({}));
  const [json, setJson] = useState('');
  const [tab, setTab] = useState('form');
  const [examples, setExamples] = useState(/** @type {any[]} */ ([]));
  const [problem, setProblem] = useState('');
  const [answers, setAnswers] = useState(/** @type {any[]} */ ([]));
  const [busy, setBusy] = useState(false);
  // A sample that arrives late does not replace text that the user has begun to write.
  const isWritten = useRef(false);
  const described = model.versions.find((/** @type {any} */ row) => row.name === first) || model.versions[model.versions.length - 1];
  const signature = described?.signature || model.graph;
  /** @param {any} request */
  const fill = (request) => {
    setJson(spell(request, 1));
    setFiles({});
    setAnswers([]);
    const inputs = inputsOf(request, signature);
    if (inputs) setFields(Object.fromEntries(inputs.map((/** @type {any} */ input) => [input.name, toTable(input)])));
    setTab(inputs ? 'form' : 'json');
  };
  useEffect(() => {
    getJson(`/sample?model=${encodeURIComponent(model.name)}&version=${encodeURIComponent(described?.name || '')}`)
      .then((found) => {
        setExamples(found.examples);
        if (!isWritten.current) fill(found.request);
      })
      .catch((error) => setProblem(error.message));
  }, [model.name, described?.name]);
  const body = () => {
    if (tab === 'json' || !signature) return json;
    const inputs = signature.inputs.filter((/** @type {any} */ tensor) => files[tensor.name] || (fields[tensor.name] || '').trim() !== '');
    return spell(makeRequest(inputs.map((/** @type {any} */ tensor) => ({ tensor, value: files[tensor.name]?.value || fromTable(fields[tensor.name], tensor) }))));
  };
  const change = (/** @type {Record<string, string>} */ next) => {
    isWritten.current = true;
    setFields(next);
    setProblem('');
  };
  const send = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setProblem('');
    try {
      const text = body();
      JSON.parse(text);
      const { key } = await getJson(`/key?stage=${encodeURIComponent(stage)}`);
      const targets = second ? [first, second] : [first];
      setAnswers(await Promise.all(targets.map((name) => call(stage, model.name, name, text, key))));
      remember(model.name, text);
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
    }
    setBusy(false);
  };
  const show = (/** @type {string} */ next) => {
    try {
      if (next === 'json' && tab === 'form') setJson(spell(JSON.parse(body()), 1));
      if (next === 'form' && tab === 'json') {
        const inputs = inputsOf(JSON.parse(json), signature);
        if (!inputs) throw new Error('This JSON is in a form that the fields cannot show. Send it as it is.');
        setFiles({});
        setFields(Object.fromEntries(inputs.map((/** @type {any} */ input) => [input.name, toTable(input)])));
      }
      setTab(next);
      setProblem('');
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
    }
  };
  const versions = ['', ...names];
  const path = pathOf(stage, model.name, first);
  let text = '';
  try {
    text = body();
  } catch {
    // The field says what is wrong once it is sent.
  }
  return html`<section aria-labelledby="try-title">
    <h2 id="try-title">Try it</h2>
    <form onSubmit=${send}>
      <div class="choose">
        <label>Model <select value=${model.name} onChange=${(/** @type {any} */ event) => (location.hash = `try/${event.target.value}`)}>${state.models.map((/** @type {any} */ row) => html`<option value=${row.name} selected=${row.name === model.name}>${row.name}</option>`)}</select></label>
        <label>Stage <select value=${stage} onChange=${(/** @type {any} */ event) => setStage(event.target.value)}>${state.stages.map((/** @type {any} */ row) => html`<option value=${row.name}>${row.name}</option>`)}</select></label>
        <label>Version <select value=${first} onChange=${(/** @type {any} */ event) => setFirst(event.target.value)}>${versions.map((name) => html`<option value=${name}>${name || 'what the stage serves'}</option>`)}</select></label>
        <label>Compare with <select value=${second} onChange=${(/** @type {any} */ event) => setSecond(event.target.value)}>${versions.map((name) => html`<option value=${name}>${name || 'nothing'}</option>`)}</select></label>
      </div>
      ${examples.length > 0 && html`<div class="chips" role="group" aria-label="Examples">${examples.map((/** @type {any} */ example) => html`<button type="button" class="chip" onClick=${() => fill(example.request)}>${example.name}</button>`)}</div>`}
      <div class="tabs" role="tablist">${[['form', 'Form'], ['json', 'JSON']].map(([name, label]) => html`<button type="button" role="tab" aria-selected=${tab === name} onClick=${() => show(name)}>${label}</button>`)}</div>
      ${tab === 'form' && signature ? signature.inputs.map((/** @type {any} */ tensor) => html`<${Field} key=${tensor.name} tensor=${tensor} text=${fields[tensor.name] || ''} file=${files[tensor.name]} onText=${(/** @type {string} */ value) => { const { [tensor.name]: _, ...others } = files; setFiles(others); change({ ...fields, [tensor.name]: value }); }} onFile=${(/** @type {any} */ file) => { isWritten.current = true; setFiles({ ...files, [tensor.name]: file }); }} onProblem=${setProblem} />`) : html`<label>Request body<textarea class="json" rows="12" spellcheck="false" value=${json} onInput=${(/** @type {any} */ event) => { isWritten.current = true; setJson(event.target.value); }}></textarea></label>`}
      <div role="alert">${problem && html`<p class="problem">${problem}</p>`}</div>
      <div class="buttons left"><button type="submit" class="main" disabled=${busy}>${busy ? 'Sending...' : 'Send'}</button><code class="small">POST ${path}</code></div>
    </form>
    <div class="answers" aria-live="polite">${answers.map((/** @type {any} */ answer, /** @type {number} */ index) => html`<${Answer} answer=${answer} other=${index === 1 ? answers[0] : null} />`)}</div>
    ${text && html`<details class="snippets"><summary>Copy as code</summary>${snippets(path, text).map(([name, code]) => html`<h3>${name}</h3><${Copied} text=${code} />`)}</details>`}
  </section>`;
}

/** One tensor: a table of text, a file, or a picture. @param {any} props */
function Field({ tensor, text, file, onText, onFile, onProblem }) {
  const layout = imageLayout(tensor);
  const [settings, setSettings] = useState({ scale: 255, mean: 0 });
  const shape = tensor.shape === null ? '...' : tensor.shape.join(', ');
  const read = async (/** @type {any} */ event) => {
    const chosen = event.target.files[0];
    if (!chosen) return;
    try {
      if (/\.npy$/i.test(chosen.name)) onFile({ name: chosen.name, value: checkedNpy(fromNpy(await chosen.arrayBuffer()), tensor) });
      else if (/^image\//.test(chosen.type) && layout) {
        const filled = { ...layout, height: layout.height > 0 ? layout.height : 224, width: layout.width > 0 ? layout.width : 224 };
        onFile({ name: chosen.name, value: fromPixels(await pixelsOf(chosen, filled), filled, tensor, settings) });
      } else onText((await chosen.text()).trim());
      onProblem('');
    } catch (error) {
      onProblem(/** @type {Error} */ (error).message);
    }
    event.target.value = '';
  };
  const rows = Math.min(10, Math.max(2, text.split('\n').length));
  return html`<fieldset class="tensor"><legend><code>${tensor.name}</code> <span class="muted">${tensor.datatype} [${shape}]</span></legend>
    ${file ? html`<p>From <strong>${file.name}</strong>: shape [${file.value.shape.join(', ')}] <button type="button" onClick=${() => onFile(undefined)}>Remove</button></p>` : html`<textarea rows=${rows} spellcheck="false" aria-label=${`${tensor.name}: a row a line, values separated by commas`} value=${text} onInput=${(/** @type {any} */ event) => onText(event.target.value)}></textarea>`}
    <label class="file">${layout ? 'Picture, CSV or .npy' : 'CSV or .npy'} <input type="file" accept=${`.csv,.tsv,.txt,.npy${layout ? ',image/*' : ''}`} onChange=${read} /></label>
    ${layout && html`<label>Pixels divided by <input type="number" step="any" value=${settings.scale} onInput=${(/** @type {any} */ event) => setSettings({ ...settings, scale: Number(event.target.value) || 1 })} /></label> <label>less <input type="number" step="any" value=${settings.mean} onInput=${(/** @type {any} */ event) => setSettings({ ...settings, mean: Number(event.target.value) || 0 })} /></label>`}
  </fieldset>`;
}

/** @param {any} array @param {any} tensor */
function checkedNpy(array, tensor) {
  if (array.datatype !== tensor.datatype && !(array.datatype === 'FP64' && tensor.datatype === 'FP32')) throw new Error(`${tensor.name} is ${tensor.datatype}, the file holds ${array.datatype}: save it with .astype().`);
  return { shape: array.shape, data: array.data };
}

/** @param {File} file @param {{width: number, height: number}} layout */
async function pixelsOf(file, layout) {
  const picture = await createImageBitmap(file);
  const canvas = document.createElement('canvas');
  canvas.width = layout.width;
  canvas.height = layout.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  context.drawImage(picture, 0, 0, layout.width, layout.height);
  return context.getImageData(0, 0, layout.width, layout.height).data;
}

/** @param {string} stage @param {string} model @param {string} version */
const pathOf = (stage, model, version) => `/${[stage, 'models', model, version, 'inference'].filter(Boolean).map(encodeURIComponent).join('/')}`;

/** @param {string} stage @param {string} model @param {string} version @param {string} body @param {string} key */
async function call(stage, model, version, body, key) {
  const headers = { 'content-type': 'application/json', ...(key && { 'x-api-key': key }) };
  const began = performance.now();
  const response = await fetch(pathOf(stage, model, version), { method: 'POST', headers, body });
  const text = await response.text();
  let json = null;
  try {
    json = JSON.parse(text);
  } catch {
    // Shown raw.
  }
  return { version: response.headers.get('x-turnout-version') || version, status: response.status, ms: performance.now() - began, headers: [...response.headers], text, json };
}

/** @param {{answer: any, other: any}} props */
export function Answer({ answer, other }) {
  const outputs = answer.json?.outputs && Array.isArray(answer.json.outputs) ? answer.json.outputs : null;
  return html`<article class="answer">
    <h3>${answer.version || 'Answer'} <span class=${`badge ${answer.status < 400 ? 'successful' : 'failed'}`}>${answer.status}</span> <span class="muted small">${answer.ms.toFixed(0)} ms</span></h3>
    ${outputs ? outputs.map((/** @type {any} */ output) => html`<${Output} output=${output} other=${other?.json?.outputs?.find?.((/** @type {any} */ row) => row.name === output.name)} />`) : html`<pre tabindex="0">${answer.json ? JSON.stringify(answer.json, null, 1) : answer.text}</pre>`}
    <details><summary>Headers and body</summary><pre tabindex="0">${answer.headers.map((/** @type {string[]} */ [name, value]) => `${name}: ${value}`).join('\n')}\n\n${answer.text}</pre></details>
  </article>`;
}

/** The inputs of a request in the protocol's form or as named arrays; null for others. @param {any} request @param {any} signature */
function inputsOf(request, signature) {
  if (!signature) return null;
  if (Array.isArray(request.inputs)) return request.inputs.every((/** @type {any} */ input) => Array.isArray(input.data)) ? request.inputs : null;
  if (request.inputs && typeof request.inputs === 'object') {
    const found = signature.inputs.filter((/** @type {any} */ tensor) => tensor.name in request.inputs);
    return found.length === Object.keys(request.inputs).length ? found.map((/** @type {any} */ tensor) => ({ name: tensor.name, shape: shapeOf(request.inputs[tensor.name]), data: request.inputs[tensor.name] })) : null;
  }
  return null;
}

/** @param {any} data @returns {number[]} */
const shapeOf = (data) => (Array.isArray(data) ? [data.length, ...shapeOf(data[0])] : []);

/** The last requests of this browser, none of them on the server. @param {string} model @param {string} text */
function remember(model, text) {
  try {
    const kept = JSON.parse(localStorage.getItem('turnout-tries') || '[]').filter((/** @type {any} */ row) => row.text !== text);
    if (text.length < 20000) localStorage.setItem('turnout-tries', JSON.stringify([{ model, text }, ...kept].slice(0, 50)));
  } catch {
    // A browser that keeps nothing.
  }
}

/** @param {string} path @param {string} text @returns {[string, string][]} */
function snippets(path, text) {
  const url = location.origin + path;
  const shell = `'${text.replaceAll("'", "'\\''")}'`;
  const python = text.replaceAll('\\', '\\\\').replaceAll("'''", "\\'\\'\\'");
  const inputs = (JSON.parse(text).inputs || []);
  const triton = Array.isArray(inputs) && [
    'import numpy as np', 'import tritonclient.http as triton', '', `client = triton.InferenceServerClient("${location.host}/${path.split('/')[1]}")`,
    ...inputs.flatMap((/** @type {any} */ input, /** @type {number} */ index) => [`input${index} = triton.InferInput("${input.name}", ${JSON.stringify(input.shape)}, "${input.datatype}")`, `input${index}.set_data_from_numpy(np.array(${pythonOf(input.data)}, triton_to_np_dtype("${input.datatype}")).reshape(${JSON.stringify(input.shape)}))`]),
    `print(client.infer("${path.split('/')[3]}", [${inputs.map((_, index) => `input${index}`).join(', ')}]).get_response())`,
  ].join('\n').replace('import tritonclient.http as triton', 'import tritonclient.http as triton\nfrom tritonclient.utils import triton_to_np_dtype');
  /** @type {[string, string][]} */
  const all = [
    ['curl', `curl ${url} -H 'content-type: application/json' -d ${shell}`],
    ['Python', `import json, urllib.request\n\nbody = r'''${python}'''\nrequest = urllib.request.Request("${url}", body.encode(), {"content-type": "application/json"})\nprint(json.load(urllib.request.urlopen(request)))`],
    ['JavaScript', `const response = await fetch(${JSON.stringify(url)}, {\n  method: "POST",\n  headers: { "content-type": "application/json" },\n  body: JSON.stringify(${text}),\n});\nconsole.log(await response.json());`],
  ];
  if (triton) all.splice(2, 0, ['tritonclient', triton]);
  return all;
}

/** @param {any} data */
const pythonOf = (data) => spell(data).replaceAll('true', 'True').replaceAll('false', 'False').replaceAll('null', 'None');
