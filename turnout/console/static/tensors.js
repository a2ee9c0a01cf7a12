// @ts-check
// Requests from what people have: cells, CSV and spreadsheets, .npy files, pictures; and back from JSON to fields.

/** @typedef {{name: string, datatype: string, shape: number[] | null, optional?: boolean}} Tensor */
/** @typedef {{shape: number[], data: any[], bytes?: Uint8Array}} Value */

export const WHOLE = new Set(['INT8', 'INT16', 'INT32', 'INT64', 'UINT8', 'UINT16', 'UINT32', 'UINT64']);
const SPECIAL = new Map([['nan', 'NaN'], ['inf', 'Infinity'], ['infinity', 'Infinity'], ['+inf', 'Infinity'], ['-inf', '-Infinity'], ['-infinity', '-Infinity']]);

/** A cell as the tensor wants it; throws with the reason. @param {string} text @param {string} datatype */
export function parseCell(text, datatype) {
  if (datatype === 'BYTES') return text;
  const trimmed = text.trim();
  if (datatype === 'BOOL') {
    if (/^(true|1)$/i.test(trimmed)) return true;
    if (/^(false|0)$/i.test(trimmed)) return false;
    throw new Error(`"${trimmed}" is not true or false`);
  }
  if (WHOLE.has(datatype) && /^[-+]?\d+$/.test(trimmed) && !Number.isSafeInteger(Number(trimmed))) return BigInt(trimmed.replace('+', ''));
  const special = SPECIAL.get(trimmed.toLowerCase());
  if (special && !WHOLE.has(datatype)) return special;
  const number = Number(trimmed);
  if (trimmed === '' || Number.isNaN(number) || !Number.isFinite(number)) throw new Error(`"${trimmed}" is not a number`);
  if (WHOLE.has(datatype) && !Number.isInteger(number)) throw new Error(`"${trimmed}" is not a whole number`);
  return number;
}

/** The cells of CSV or of a spreadsheet; quoted ones may contain separators and line breaks. @param {string} text @param {string} separator empty: one cell a line @returns {string[][]} */
function splitCells(text, separator) {
  /** @type {string[][]} */
  const rows = [];
  let [row, cell, quoted, wasQuoted] = [/** @type {string[]} */ ([]), '', false, false];
  const endCell = () => {
    row.push(wasQuoted ? cell : cell.trim());
    [cell, wasQuoted] = ['', false];
  };
  const endRow = () => {
    const isBlank = !row.length && !wasQuoted && cell.trim() === '';
    endCell();
    if (!isBlank) rows.push(row);
    row = [];
  };
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (quoted && char === '"' && text[at + 1] === '"') {
      cell += '"';
      at++;
    } else if (quoted && char === '"') quoted = false;
    else if (quoted) cell += char;
    else if (char === '"' && cell.trim() === '' && !wasQuoted) [quoted, wasQuoted, cell] = [true, true, ''];
    else if (separator && char === separator) endCell();
    else if (char === '\n') endRow();
    else if (!(wasQuoted && char.trim() === '')) cell += char;
  }
  endRow();
  return rows;
}

/** Rows of text as a table, without a header of names. @param {string} text @param {Tensor} tensor @returns {string[][]} */
export function parseTable(text, tensor) {
  const { datatype, shape } = tensor;
  const plain = text.replace(/\r\n?/g, '\n');
  const outside = plain.replace(/"(?:[^"]|"")*"/g, '');
  // A text may contain commas: where a row is one text, only a tab separates.
  const isText = datatype === 'BYTES' && shape !== null && shape.length < 2;
  const separator = outside.includes('\t') ? '\t' : isText ? '' : outside.includes(';') && !outside.includes(',') ? ';' : ',';
  const rows = splitCells(plain, separator);
  const isName = (/** @type {string} */ cell) => cell === '' || (Number.isNaN(Number(cell)) && !SPECIAL.has(cell.toLowerCase()) && !(datatype === 'BOOL' && /^(true|false)$/i.test(cell)));
  if (rows.length > 1 && datatype !== 'BYTES' && rows[0].every(isName)) rows.shift();
  return rows;
}

/** A table as a tensor of the declared shape. @param {string} text @param {Tensor} tensor @param {number[] | null} [wanted] the shape that the user or a request gave @returns {Value} */
export function fromTable(text, tensor, wanted = null) {
  const rows = parseTable(text, tensor);
  if (!rows.length) throw new Error(`${tensor.name} has no rows`);
  const width = rows[0].length;
  rows.forEach((row, at) => {
    if (row.length !== width) throw new Error(`${tensor.name}: row ${at + 1} has ${row.length} values, the first has ${width}`);
  });
  const data = rows.flatMap((row, at) =>
    row.map((cell) => {
      try {
        return parseCell(cell, tensor.datatype);
      } catch (error) {
        throw new Error(`${tensor.name}: row ${at + 1}: ${/** @type {Error} */ (error).message}`);
      }
    }),
  );
  return { shape: fitShape(tensor, rows.length, width, wanted), data };
}

/** The shape of so many values: the declared one, its free dimensions filled. @param {Tensor} tensor @param {number} rows @param {number} width @param {number[] | null} wanted @returns {number[]} */
export function fitShape({ name, shape }, rows, width, wanted) {
  const count = rows * width;
  const product = (/** @type {number[]} */ lengths) => lengths.reduce((all, length) => all * length, 1);
  if (shape?.length === 0) {
    if (count !== 1) throw new Error(`${name} is one value, not ${count}`);
    return [];
  }
  const known = wanted || (shape && shape.length > 2 ? shape.map((length) => (length < 0 ? 1 : length)) : null);
  if (known && known.length !== 1 && (shape === null || shape.length !== 2)) {
    if (product(known) === count) return known;
    const each = product(known.slice(1));
    if (known.length && each > 0 && count % each === 0) return [count / each, ...known.slice(1)];
    throw new Error(`${name}: ${count} values do not fit the shape [${known.join(', ')}]`);
  }
  if (shape?.length === 1 || known?.length === 1) return [count];
  return [rows, width];
}

const FORMATS = new Map([
  ['<f4', ['FP32', Float32Array]], ['<f8', ['FP64', Float64Array]], ['|i1', ['INT8', Int8Array]], ['<i2', ['INT16', Int16Array]],
  ['<i4', ['INT32', Int32Array]], ['<i8', ['INT64', BigInt64Array]], ['|u1', ['UINT8', Uint8Array]], ['<u2', ['UINT16', Uint16Array]],
  ['<u4', ['UINT32', Uint32Array]], ['<u8', ['UINT64', BigUint64Array]], ['|b1', ['BOOL', Uint8Array]], ['<f2', ['FP16', Uint16Array]],
]);

/** The array in a .npy file. Source: NumPy, "NEP 1, A simple file format". @param {ArrayBuffer} buffer @returns {Value & {datatype: string}} */
export function fromNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes[0] !== 0x93 || new TextDecoder().decode(bytes.slice(1, 6)) !== 'NUMPY') throw new Error('This is not an .npy file.');
  const view = new DataView(buffer);
  const wide = bytes[6] >= 2;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const start = (wide ? 12 : 10) + length;
  const header = new TextDecoder('latin1').decode(bytes.slice(wide ? 12 : 10, start));
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1] || '';
  const format = FORMATS.get(descr);
  if (!format) throw new Error(`Arrays of type ${descr || '?'} cannot be read here.`);
  if (/'fortran_order':\s*True/.test(header)) throw new Error('Arrays in Fortran order cannot be read here: save it with np.ascontiguousarray.');
  const shape = (/'shape':\s*\(([^)]*)\)/.exec(header)?.[1] || '').split(',').map((part) => part.trim()).filter(Boolean).map(Number);
  const [datatype, Kind] = /** @type {[string, any]} */ (format);
  const values = Array.from(new Kind(buffer.slice(start)));
  const data = datatype === 'BOOL' ? values.map(Boolean) : datatype === 'FP16' ? values.map(fromHalf) : values;
  return { datatype, shape, data: data.map((value) => (typeof value === 'number' && !Number.isFinite(value) ? String(value) : value)) };
}

/** A half float's value. Source: IEEE 754-2019, binary16. @param {number} bits */
function fromHalf(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 0x1f, bits & 0x3ff];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

/** Where the channels of a picture are in a tensor: of `[N,C,H,W]` or `[N,H,W,C]`; null for other tensors. @param {Tensor} tensor */
export function imageLayout(tensor) {
  const shape = tensor.shape;
  if (!shape || shape.length < 3 || tensor.datatype === 'BYTES') return null;
  const [a, b, c] = shape.slice(-3);
  if ([1, 3, 4].includes(a)) return { channels: a, height: b, width: c, first: true };
  if ([1, 3, 4].includes(c)) return { channels: c, height: a, width: b, first: false };
  return null;
}

/** Numbers of a text such as `0.485, 0.456, 0.406`: one for each channel, or one for all. @param {string} text @param {number} channels @param {string} name */
export function perChannel(text, channels, name) {
  const numbers = text.split(/[,;\s]+/).filter(Boolean).map(Number);
  if (numbers.some((number) => !Number.isFinite(number)) || ![1, channels].includes(numbers.length)) throw new Error(`${name}: write one number, or ${channels} separated by commas`);
  return Array.from({ length: channels }, (_, channel) => numbers[numbers.length === 1 ? 0 : channel]);
}

/**
 * Pixels as a tensor.
 * @param {Uint8ClampedArray} pixels RGBA @param {{channels: number, height: number, width: number, first: boolean}} layout
 * @param {Tensor} tensor @param {{scale: number, mean: number[], deviation: number[]}} settings each value becomes `(pixel / scale - mean) / deviation`
 * @returns {Value}
 */
export function fromPixels(pixels, layout, tensor, settings) {
  const { channels, height, width, first } = layout;
  const data = new Array(channels * height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = 4 * (y * width + x);
      for (let channel = 0; channel < channels; channel++) {
        const gray = 0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2];
        const value = ((channels === 1 ? gray : pixels[at + channel]) / settings.scale - settings.mean[channel]) / settings.deviation[channel];
        const place = first ? (channel * height + y) * width + x : (y * width + x) * channels + channel;
        data[place] = WHOLE.has(tensor.datatype) ? Math.round(value) : Math.fround(value);
      }
    }
  }
  const inner = first ? [channels, height, width] : [height, width, channels];
  return { shape: (tensor.shape || []).length === 4 ? [1, ...inner] : inner, data };
}

/** A file as a value of BYTES: base64 in JSON, as it is in binary. @param {ArrayBuffer} buffer @param {Tensor} tensor @returns {Value} */
export function fromFile(buffer, tensor) {
  const bytes = new Uint8Array(buffer);
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return { shape: (tensor.shape || [1]).map(() => 1), data: [btoa(text)], bytes };
}

/** The Open Inference Protocol's request. @param {{tensor: Tensor, value: Value}[]} inputs */
export function makeRequest(inputs) {
  return { inputs: inputs.map(({ tensor, value }) => ({ name: tensor.name, datatype: tensor.datatype, shape: value.shape, data: value.data })) };
}

/** A tensor's data as rows of text, for a field. @param {{shape: number[], data: any}} input @param {string} datatype */
export function toTable(input, datatype) {
  const data = Array.isArray(input.data) ? input.data.flat(Infinity) : [input.data];
  const width = Math.max(1, input.shape.slice(1).reduce((product, length) => product * length, 1));
  const rows = [];
  for (let at = 0; at < data.length; at += width) rows.push(data.slice(at, at + width));
  return joinCells(rows, datatype);
}

/** Rows of cells as text that `parseTable` reads back. @param {any[][]} rows @param {string} datatype */
export const joinCells = (rows, datatype) => rows.map((row) => row.map((cell) => (datatype === 'BYTES' ? quoted(String(cell)) : String(cell))).join(', ')).join('\n');

/** @param {string} cell */
const quoted = (cell) => (cell === '' || cell !== cell.trim() || /[",;\r\n\t]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
