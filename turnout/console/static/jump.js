// @ts-check
// Jump to a model by its name: Ctrl+K, or Command+K on a Mac.
import { html, useEffect, useRef, useState } from './lib.js';

const MOST = 20;

/** @param {{models: any[], onModel: (name: string) => void}} props */
export function Jump({ models, onModel }) {
  const [text, setText] = useState('');
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => {
    const listen = (/** @type {KeyboardEvent} */ event) => {
      if (event.key.toLowerCase() !== 'k' || !(event.metaKey || event.ctrlKey) || event.altKey || event.shiftKey || document.querySelector('dialog[open]')) return;
      event.preventDefault();
      field.current?.focus();
    };
    window.addEventListener('keydown', listen);
    return () => window.removeEventListener('keydown', listen);
  }, []);
  const wanted = text.trim().toLowerCase();
  const found = wanted ? models.filter((model) => model.name.includes(wanted)).sort((one, other) => one.name.indexOf(wanted) - other.name.indexOf(wanted) || one.name.length - other.name.length).slice(0, MOST) : [];
  const jump = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!found.length) return;
    onModel(found[0].name);
    setText('');
    field.current?.blur();
  };
  return html`<form class="jump" role="search" onSubmit=${jump}><input ref=${field} list="jump-models" aria-label="Jump to a model" placeholder="Jump to a model (Ctrl+K)" autocomplete="off" value=${text} onInput=${(/** @type {any} */ event) => setText(event.target.value)} />
    <datalist id="jump-models">${found.map((model) => html`<option value=${model.name}></option>`)}</datalist></form>`;
}
