// @ts-check
// Requests from what people have: text fields, CSV and spreadsheets, .npy files, pictures; and back from JSON to fields.

/** @typedef {{name: string, datatype: string, shape: number[] | null, optional?: boolean}} Tensor */
/** @typedef {{shape: number[], data: any[]}} Value */

const WHOLE = new Set(['INT8', 'INT16', 'INT32', 'INT64', 'UINT8', 'UINT16', 'UINT32', 'UINT64']);

/** A cell as the tensor wants it; throws with the reason. @param {string} text @param {string} datatype */
export function parseCell(text, datatype) {
  const trimmed = text.trim();
  if (datatype === 'BYTES') return text.replace(/^"(.*)"$/s, '$1').replaceAll('""', '"');
  if (datatype === 'BOOL') {
    if (/^(true|1)$/i.test(trimmed)) return true;
    if (/^(false|0)$/i.test(trimmed)) return false;
    throw new Error(`"${trimmed}" is not true or false`);
  }
  const number = Number(trimmed);
  if (trimmed === '' || Number.isNaN(number)) throw new Error(`"${trimmed}" is not a number`);
  if (WHOLE.has(datatype) && !Number.isInteger(number)) throw new Error(`"${trimmed}" is not a whole number`);
  if (WHOLE.has(datatype) && !Number.isSafeInteger(number)) throw new Error(`"${trimmed}" is too large for this form; use JSON`);
  return number;
}

/** The cells of one line of CSV or of a spreadsheet. @param {string} line @param {string} separator @returns {string[]} */
function splitLine(line, separator) {
  const cells = [];
  let cell = '';
  let quoted = false;
  for (let at = 0; at < line.length; at++) {
    const char = line[at];
    if (quoted && char === '"' && line[at + 1] === '"') {
      cell += '"';
      at++;
    } else if (char === '"' && (quoted || cell.trim() === '')) {
      quoted = !quoted;
      if (quoted) cell = '';
    } else if (char === separator && !quoted) {
      cells.push(cell);
      cell = '';
    } else cell += char;
  }
  cells.push(cell);
  return cells;
}

/** Rows of text as a table, without a header of names. @param {string} text @param {string} datatype @returns {string[][]} */
export function parseTable(text, datatype) {
  const lines = text.replaceAll('\r\n', '\n').split('\n').filter((line) => line.trim() !== '');
  const separator = lines.some((line) => line.includes('\t')) ? '\t' : lines.some((line) => line.includes(';')) && !lines.some((line) => line.includes(',')) ? ';' : ',';
  const rows = lines.map((line) => splitLine(line, separator));
  if (rows.length > 1 && datatype !== 'BYTES' && rows[0].every((cell) => cell.trim() === '' || Number.isNaN(Number(cell)))) rows.shift();
  return rows;
}

/** A table as a tensor of the declared shape. @param {string} text @param {Tensor} tensor @returns {Value} */
export function fromTable(text, tensor) {
  const rows = parseTable(text, tensor.datatype);
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
  return { shape: fitShape(tensor.shape, rows.length, width), data };
}

/** The shape of so many values: the declared one, its free dimensions filled. @param {number[] | null} shape @param {number} rows @param {number} width */
export function fitShape(shape, rows, width) {
  if (shape === null) return [rows, width];
  if (shape.length === 0) return [];
  if (shape.length === 1) return [rows * width];
  if (shape.length === 2) return [rows, width];
  const known = shape.slice(1).map((length) => (length < 0 ? 1 : length));
  const each = known.reduce((product, length) => product * length, 1);
  return [Math.max(1, Math.round((rows * width) / each)), ...known];
}

const FORMATS = new Map([
  ['<f4', ['FP32', Float32Array]], ['<f8', ['FP64', Float64Array]], ['|i1', ['INT8', Int8Array]], ['<i2', ['INT16', Int16Array]],
  ['<i4', ['INT32', Int32Array]], ['<i8', ['INT64', BigInt64Array]], ['|u1', ['UINT8', Uint8Array]], ['<u2', ['UINT16', Uint16Array]],
  ['<u4', ['UINT32', Uint32Array]], ['<u8', ['UINT64', BigUint64Array]], ['|b1', ['BOOL', Uint8Array]],
]);

/** The array in a .npy file. Source: NumPy, "NEP 1, A simple file format". @param {ArrayBuffer} buffer @returns {Value & {datatype: string}} */
export function fromNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes[0] !== 0x93 || new TextDecoder().decode(bytes.slice(1, 6)) !== 'NUMPY') throw new Error('This is no .npy file.');
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
  return { datatype, shape, data: datatype === 'BOOL' ? values.map(Boolean) : values };
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

/**
 * Pixels as a tensor.
 * @param {Uint8ClampedArray} pixels RGBA @param {{channels: number, height: number, width: number, first: boolean}} layout
 * @param {Tensor} tensor @param {{scale: number, mean: number}} settings each value becomes `pixel / scale - mean`
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
        const value = (channels === 1 ? gray : pixels[at + channel]) / settings.scale - settings.mean;
        const place = first ? (channel * height + y) * width + x : (y * width + x) * channels + channel;
        data[place] = WHOLE.has(tensor.datatype) ? Math.round(value) : Math.fround(value);
      }
    }
  }
  const inner = first ? [channels, height, width] : [height, width, channels];
  return { shape: (tensor.shape || []).length === 4 ? [1, ...inner] : inner, data };
}

/** The Open Inference Protocol's request. @param {{tensor: Tensor, value: Value}[]} inputs */
export function makeRequest(inputs) {
  return { inputs: inputs.map(({ tensor, value }) => ({ name: tensor.name, datatype: tensor.datatype, shape: value.shape, data: value.data })) };
}

/** JSON that keeps 64-bit integers. @param {any} value @param {number} [indent] */
export function spell(value, indent) {
  return JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? `\u0000${part}` : part), indent).replace(/"\\u0000(-?\d+)"/g, '$1');
}

/** A tensor's data as rows of text, for a field. @param {{shape: number[], data: any}} input */
export function toTable(input) {
  const data = Array.isArray(input.data) ? input.data.flat(Infinity) : [input.data];
  const width = input.shape.length < 2 ? (input.shape.length ? 1 : 1) : input.shape.slice(1).reduce((product, length) => product * length, 1);
  const lines = [];
  for (let at = 0; at < data.length; at += Math.max(1, width)) {
    lines.push(data.slice(at, at + Math.max(1, width)).map(quoted).join(', '));
  }
  return lines.join('\n');
}

/** @param {any} cell */
const quoted = (cell) => (typeof cell === 'string' && /[",;\n\t]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : String(cell));
