// @ts-check
// A picture as a tensor: from a file or a camera, with a preview, and its size and values as the model wants them.
import { html, useEffect, useRef, useState } from './lib.js';
import { WHOLE, fromPixels, perChannel } from './tensors.js';

/** @typedef {{scale: string, mean: string, deviation: string, height: string, width: string}} Settings */

const FREE = 224;

/** How pictures become a tensor unless the user says otherwise. @param {any} tensor @param {any} layout @returns {Settings} */
export const settingsOf = (tensor, layout) => ({ scale: WHOLE.has(tensor.datatype) ? '1' : '255', mean: '0', deviation: '1', height: String(layout.height > 0 ? layout.height : FREE), width: String(layout.width > 0 ? layout.width : FREE) });

/** @param {ImageBitmap} bitmap @param {any} layout @param {any} tensor @param {Settings} settings */
export function fromBitmap(bitmap, layout, tensor, settings) {
  const filled = { ...layout, height: Number(settings.height), width: Number(settings.width) };
  if (![filled.height, filled.width].every((side) => Number.isInteger(side) && side > 0 && side <= 8192)) throw new Error('Height and width are whole numbers from 1 to 8192.');
  const scale = Number(settings.scale);
  const deviation = perChannel(settings.deviation, layout.channels, 'Deviation');
  if (!scale || !Number.isFinite(scale) || deviation.includes(0)) throw new Error('Values cannot be divided by 0.');
  const canvas = document.createElement('canvas');
  canvas.width = filled.width;
  canvas.height = filled.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  context.drawImage(bitmap, 0, 0, filled.width, filled.height);
  const { data } = context.getImageData(0, 0, filled.width, filled.height);
  return fromPixels(data, filled, tensor, { scale, mean: perChannel(settings.mean, layout.channels, 'Mean'), deviation });
}

/** The picture as the model gets it, and its settings. @param {{bitmap: ImageBitmap, layout: any, settings: Settings, onSettings: (settings: Settings) => void}} props */
export function PictureSettings({ bitmap, layout, settings, onSettings }) {
  const place = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useEffect(() => {
    const canvas = place.current;
    if (!canvas) return;
    canvas.width = Math.min(8192, Math.max(1, Number(settings.width) || 1));
    canvas.height = Math.min(8192, Math.max(1, Number(settings.height) || 1));
    canvas.getContext('2d')?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  }, [bitmap, settings.height, settings.width]);
  const field = (/** @type {keyof Settings} */ name, /** @type {string} */ label) => html`<label>${label} <input size="8" value=${settings[name]} onInput=${(/** @type {any} */ event) => onSettings({ ...settings, [name]: event.target.value })} /></label>`;
  return html`<figure class="picture"><canvas ref=${place} role="img" aria-label=${`The picture, ${bitmap.width} by ${bitmap.height}, as it is sent`}></canvas></figure>
    <div class="choose">${layout.height < 0 && field('height', 'Height')}${layout.width < 0 && field('width', 'Width')}${field('scale', 'Pixels divided by')}${field('mean', 'less the mean')}${field('deviation', 'divided by the deviation')}</div>
    ${layout.channels > 1 && html`<p class="muted small">Mean and deviation: one number, or ${layout.channels} separated by commas.</p>`}`;
}

/** A picture of the camera. @param {{onPicture: (bitmap: ImageBitmap) => void, onProblem: (problem: string) => void}} props */
export function Camera({ onPicture, onProblem }) {
  /** @type {[MediaStream | null, (stream: MediaStream | null) => void]} */
  const [stream, setStream] = useState(null);
  const video = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    setStream(null);
  };
  useEffect(() => {
    if (video.current && stream) video.current.srcObject = stream;
    return () => stream?.getTracks().forEach((track) => track.stop());
  }, [stream]);
  if (!navigator.mediaDevices?.getUserMedia) return '';
  const start = () => navigator.mediaDevices.getUserMedia({ video: true }).then((opened) => (setStream(opened), onProblem('')), (error) => onProblem(`The camera cannot be used: ${error.message}.`));
  const take = async () => {
    if (video.current?.videoWidth) onPicture(await createImageBitmap(video.current));
    stop();
  };
  if (!stream) return html`<button type="button" onClick=${start}>Camera</button>`;
  return html`<div class="camera"><video ref=${video} autoplay muted playsinline aria-label="The camera"></video><div class="buttons left"><button type="button" onClick=${take}>Take the picture</button><button type="button" onClick=${stop}>Close the camera</button></div></div>`;
}
