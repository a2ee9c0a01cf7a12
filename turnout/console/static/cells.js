// @ts-check
// A small tensor as a table of fields; a range of a spreadsheet can be pasted into it.
import { html, useRef, useState } from './lib.js';
import { WHOLE, joinCells, parseTable } from './tensors.js';

const MOST_ROWS = 50;
const MOST_COLUMNS = 16;

/** @typedef {import('./tensors.js').Tensor} Tensor */

/** The columns that the declared shape fixes; 0 where they are free. @param {Tensor} tensor */
function fixedColumns({ shape }) {
  if (shape === null) return 0;
  if (shape.length < 2) return 1;
  const rest = shape.slice(1);
  return rest.some((length) => length < 0) ? 0 : rest.reduce((product, length) => product * length, 1);
}

/** The cells of a text, a rectangle; null if they are too many for fields. @param {string} text @param {Tensor} tensor @returns {string[][] | null} */
export function cellsOf(text, tensor) {
  if (text.length > 20000) return null;
  const rows = parseTable(text, tensor);
  if (!rows.length) rows.push([]);
  const columns = Math.max(1, fixedColumns(tensor), ...rows.map((row) => row.length));
  if (rows.length > MOST_ROWS || columns > MOST_COLUMNS || fixedColumns(tensor) > 0 && columns > fixedColumns(tensor) && fixedColumns(tensor) > 1) return null;
  if (fixedColumns(tensor) === 1 && columns > 1) return rows.flat().length <= MOST_ROWS ? rows.flat().map((cell) => [cell]) : null;
  return rows.map((row) => Array.from({ length: columns }, (_, column) => row[column] ?? ''));
}

/** @param {{tensor: Tensor, text: string, onText: (text: string) => void, onProblem: (problem: string) => void}} props */
export function Cells({ tensor, text, onText, onProblem }) {
  const [own, setOwn] = useState(() => ({ text, rows: cellsOf(text, tensor) || [['']] }));
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  // Cells that are empty for a moment have no text: the rows as typed are kept while the text is this field's own.
  /** @type {string[][]} */
  const rows = own.text === text ? own.rows : cellsOf(text, tensor) || [['']];
  const change = (/** @type {string[][]} */ next) => {
    const joined = joinCells(next, tensor.datatype);
    setOwn({ text: joined, rows: next });
    onText(joined);
  };
  const columns = rows[0].length;
  const fixed = fixedColumns(tensor);
  const isOne = tensor.shape?.length === 0;
  const set = (/** @type {number} */ row, /** @type {number} */ column, /** @type {string} */ value) => change(rows.map((cells, at) => (at === row ? cells.map((cell, index) => (index === column ? value : cell)) : cells)));
  const paste = (/** @type {any} */ event, /** @type {number} */ row, /** @type {number} */ column) => {
    let pasted = parseTable(event.clipboardData.getData('text/plain'), tensor);
    if (pasted.flat().length < 2 || isOne) return;
    event.preventDefault();
    if (fixed === 1) pasted = pasted.flat().map((cell) => [cell]);
    const right = column + Math.max(...pasted.map((cells) => cells.length));
    if (fixed && right > fixed) return onProblem(`${tensor.name} has ${fixed} columns; what was pasted ends in column ${right}.`);
    const next = Array.from({ length: Math.max(rows.length, row + pasted.length) }, (_, at) => Array.from({ length: Math.max(columns, right) }, (_, index) => pasted[at - row]?.[index - column] ?? rows[at]?.[index] ?? ''));
    onProblem('');
    change(next);
  };
  const move = (/** @type {KeyboardEvent} */ event, /** @type {number} */ row, /** @type {number} */ column) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const cell = step && /** @type {HTMLElement | undefined} */ (place.current?.querySelectorAll('tbody tr')[row + step]?.querySelectorAll('input, select')[column]);
    if (!cell) return;
    event.preventDefault();
    cell.focus();
  };
  const field = (/** @type {string} */ cell, /** @type {number} */ row, /** @type {number} */ column) => {
    const props = { 'aria-label': `${tensor.name} [${fixed === 1 ? row : `${row}, ${column}`}]`, value: cell, onPaste: (/** @type {any} */ event) => paste(event, row, column), onKeyDown: (/** @type {any} */ event) => move(event, row, column) };
    if (tensor.datatype === 'BOOL') return html`<select ...${{ ...props, onKeyDown: undefined }} onChange=${(/** @type {any} */ event) => set(row, column, event.target.value)}>${cell === '' && html`<option value=""></option>`}${['true', 'false'].map((name) => html`<option value=${name} selected=${cell.toLowerCase() === name}>${name}</option>`)}</select>`;
    return html`<input ...${props} inputmode=${tensor.datatype === 'BYTES' ? 'text' : WHOLE.has(tensor.datatype) ? 'numeric' : 'decimal'} class=${tensor.datatype === 'BYTES' ? 'words' : ''} autocomplete="off" spellcheck="false" onInput=${(/** @type {any} */ event) => set(row, column, event.target.value)} />`;
  };
  return html`<div class="wide" ref=${place}><table class="cells">
      ${columns > 1 && html`<thead><tr><th><span class="hidden">Row</span></th>${rows[0].map((_, column) => html`<th scope="col" class="number">${column}</th>`)}<th><span class="hidden">Action</span></th></tr></thead>`}
      <tbody>${rows.map((cells, row) => html`<tr key=${row}><th scope="row" class="number">${row}</th>${cells.map((cell, column) => html`<td key=${column}>${field(cell, row, column)}</td>`)}<td>${rows.length > 1 && html`<button type="button" class="link" aria-label=${`Remove row ${row} of ${tensor.name}`} onClick=${() => change(rows.filter((_, at) => at !== row))}>✕</button>`}</td></tr>`)}</tbody>
    </table></div>
    ${!isOne && html`<div class="buttons left"><button type="button" onClick=${() => change([...rows, rows[0].map(() => (tensor.datatype === 'BOOL' ? 'false' : ''))])}>Add a row</button>${!fixed && html` <button type="button" onClick=${() => change(rows.map((cells) => [...cells, '']))}>Add a column</button>${columns > 1 && html` <button type="button" onClick=${() => change(rows.map((cells) => cells.slice(0, -1)))}>Remove a column</button>`}`}</div>`}`;
}
