// @ts-check
// JSON whose integers of 64 bits stay exact: a number of JavaScript holds 53 bits.

/** A JSON text's value; integers that a number cannot hold become BigInts. @param {string} text @returns {any} */
export function readJson(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  // Browsers without `context` (before 2025) round such integers, as JSON.parse does.
  const revive = (/** @type {string} */ _, /** @type {any} */ value, /** @type {any} */ context) =>
    typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source || '') ? BigInt(context.source) : value;
  return JSON.parse(text, /** @type {any} */ (revive));
}

/** A value as JSON, with its BigInts as numbers. @param {any} value @param {number} [indent] @returns {string} */
export function spell(value, indent) {
  return JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? `\u0000${part}` : part), indent).replace(/"\\u0000(-?\d+)"/g, '$1');
}
