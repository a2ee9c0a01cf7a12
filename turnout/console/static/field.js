// @ts-check
// One tensor of a request: fields, text, a file, or a picture.
import { html, useState } from './lib.js';
import { Cells, cellsOf } from './cells.js';
import { Camera, PictureSettings, fromBitmap, settingsOf } from './picture.js';
import { fromFile, fromNpy, imageLayout } from './tensors.js';

/** @param {{tensor: any, text: string, shape: string, file: any, onText: (text: string) => void, onShape: (shape: string) => void, onFile: (file: any) => void, onProblem: (problem: string) => void}} props */
export function Field({ tensor, text, shape, file, onText, onShape, onFile, onProblem }) {
  const layout = imageLayout(tensor);
  const [view, setView] = useState('cells');
  const [isOver, setOver] = useState(false);
  const isBytes = tensor.datatype === 'BYTES';
  const isImage = tensor.content === 'image';
  const declared = tensor.shape === null ? '...' : tensor.shape.join(', ');
  const show = (/** @type {string} */ name, /** @type {ImageBitmap} */ bitmap, /** @type {any} */ settings) => {
    try {
      onFile({ name, bitmap, settings, value: fromBitmap(bitmap, layout, tensor, settings) });
      onProblem('');
    } catch (error) {
      onFile({ name, bitmap, settings, problem: /** @type {Error} */ (error).message });
      onProblem(/** @type {Error} */ (error).message);
    }
  };
  const read = async (/** @type {File | undefined} */ chosen) => {
    if (!chosen) return;
    try {
      const isPicture = /^image\//.test(chosen.type);
      if (/\.npy$/i.test(chosen.name)) onFile({ name: chosen.name, value: checkedNpy(fromNpy(await chosen.arrayBuffer()), tensor) });
      else if (isPicture && layout) return show(chosen.name, await createImageBitmap(chosen), settingsOf(tensor, layout));
      else if (isPicture && isBytes) onFile({ name: chosen.name, address: URL.createObjectURL(chosen), value: fromFile(await chosen.arrayBuffer(), tensor) });
      else if (isPicture) throw new Error(`${tensor.name} [${declared}] is no picture.`);
      else onText((await chosen.text()).replace(/^\uFEFF/, '').trim());
      onProblem('');
    } catch (error) {
      onProblem(/** @type {Error} */ (error).message);
    }
  };
  const drop = (/** @type {any} */ event) => {
    event.preventDefault();
    setOver(false);
    read(event.dataTransfer.files[0]);
  };
  const fits = cellsOf(text, tensor) !== null;
  const shown = fits ? view : 'text';
  const label = isImage ? 'Picture' : layout ? 'Picture, CSV or .npy' : isBytes ? 'Picture or CSV' : 'CSV or .npy';
  return html`<fieldset class=${`tensor ${isOver ? 'over' : ''}`} onDragOver=${(/** @type {any} */ event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${drop}><legend><code>${tensor.name}</code> <span class="muted">${isImage ? 'image, ' : ''}${tensor.datatype} [${declared}]${tensor.optional ? ', optional' : ''}</span></legend>
    ${file ? html`<div>
      <p>From <strong>${file.name}</strong>${file.value && `: shape [${file.value.shape.join(', ')}]`} <button type="button" onClick=${() => onFile(undefined)}>Remove</button></p>
      ${file.bitmap && html`<${PictureSettings} bitmap=${file.bitmap} layout=${layout} settings=${file.settings} onSettings=${(/** @type {any} */ settings) => show(file.name, file.bitmap, settings)} />`}
      ${file.address && html`<figure class="picture"><img src=${file.address} alt=${`The picture ${file.name}`} /></figure>`}
    </div>` : html`
      ${fits && html`<div class="tabs small" role="tablist" aria-label=${`${tensor.name} as`}>${[['cells', 'Cells'], ['text', 'Text']].map(([name, title]) => html`<button type="button" role="tab" aria-selected=${shown === name ? 'true' : 'false'} onClick=${() => setView(name)}>${title}</button>`)}</div>`}
      ${shown === 'cells' ? html`<${Cells} tensor=${tensor} text=${text} onText=${onText} onProblem=${onProblem} />` : html`<textarea rows=${Math.min(10, Math.max(2, text.split('\n').length))} spellcheck="false" aria-label=${`${tensor.name}: one row per line${isBytes && tensor.shape?.length === 1 ? '' : ', values separated by commas'}`} value=${text} onInput=${(/** @type {any} */ event) => onText(event.target.value)}></textarea>`}
      ${(tensor.shape === null || tensor.shape.length > 2) && html`<label>Shape <input value=${shape} placeholder=${declared} onInput=${(/** @type {any} */ event) => onShape(event.target.value)} /></label>`}`}
    <div class="buttons left"><label class="file">${label} <input type="file" accept=${isImage ? 'image/*' : `.csv,.tsv,.txt,${isBytes ? '' : '.npy'}${layout || isBytes ? ',image/*' : ''}`} onChange=${(/** @type {any} */ event) => { read(event.target.files[0]); event.target.value = ''; }} /></label>
      ${layout && !file && html`<${Camera} onPicture=${(/** @type {ImageBitmap} */ bitmap) => show('the camera', bitmap, settingsOf(tensor, layout))} onProblem=${onProblem} />`}<span class="muted small">or drop a file here</span></div>
  </fieldset>`;
}

/** @param {any} array @param {any} tensor */
function checkedNpy(array, tensor) {
  if (array.datatype !== tensor.datatype && !(array.datatype === 'FP64' && tensor.datatype === 'FP32')) throw new Error(`${tensor.name} is ${tensor.datatype}, the file holds ${array.datatype}: save it with .astype().`);
  return { shape: array.shape, data: array.data };
}
