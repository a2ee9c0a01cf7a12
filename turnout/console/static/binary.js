// @ts-check
// Large requests in the protocol's binary form: JSON in front, then the tensors' bytes, little-endian.
// Source: Open Inference Protocol, "Binary Tensor Data Extension".

/** @typedef {import('./tensors.js').Tensor} Tensor */
/** @typedef {import('./tensors.js').Value} Value */

/** @type {Map<string, [string, number]>} */
const SETTERS = new Map([
  ['FP32', ['setFloat32', 4]], ['FP64', ['setFloat64', 8]], ['INT8', ['setInt8', 1]], ['INT16', ['setInt16', 2]], ['INT32', ['setInt32', 4]], ['INT64', ['setBigInt64', 8]],
  ['UINT8', ['setUint8', 1]], ['UINT16', ['setUint16', 2]], ['UINT32', ['setUint32', 4]], ['UINT64', ['setBigUint64', 8]], ['BOOL', ['setUint8', 1]],
]);

/** Inputs as a body and the length of its JSON; null where one has no binary form here. @param {{tensor: Tensor, value: Value}[]} inputs */
export function makeBinary(inputs) {
  if (!inputs.every(({ tensor, value }) => SETTERS.has(tensor.datatype) || value.bytes)) return null;
  const parts = inputs.map(({ tensor, value }) => (value.bytes ? withLength(value.bytes) : bytesOf(value.data, tensor.datatype)));
  const described = inputs.map(({ tensor, value }, index) => ({ name: tensor.name, datatype: tensor.datatype, shape: value.shape, parameters: { binary_data_size: parts[index].byteLength } }));
  const head = new TextEncoder().encode(JSON.stringify({ inputs: described }));
  return { body: new Blob([head, ...parts]), headLength: head.byteLength };
}

/** @param {any[]} data @param {string} datatype */
function bytesOf(data, datatype) {
  const [setter, size] = /** @type {[string, number]} */ (SETTERS.get(datatype));
  const view = /** @type {any} */ (new DataView(new ArrayBuffer(size * data.length)));
  const isBig = setter.includes('Big');
  data.forEach((value, index) => view[setter](size * index, isBig ? BigInt(value) : Number(value), true));
  return new Uint8Array(view.buffer);
}

/** A value of BYTES: its length, then its bytes. @param {Uint8Array} bytes */
function withLength(bytes) {
  const whole = new Uint8Array(4 + bytes.byteLength);
  new DataView(whole.buffer).setUint32(0, bytes.byteLength, true);
  whole.set(bytes, 4);
  return whole;
}
