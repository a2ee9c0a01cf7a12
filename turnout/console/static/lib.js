// @ts-check
// What every module of the page uses: the renderer, and requests to the console.
import { h, render, Fragment } from './vendor/preact.js';
import { useState, useEffect, useRef, useMemo } from './vendor/hooks.js';
import htm from './vendor/htm.js';

export const html = htm.bind(h);
export { render, Fragment, useState, useEffect, useRef, useMemo };

const BASE = '/console';

/** An answer that is no success, with what the server says about it. */
export class Refused extends Error {
  /** @param {number} status @param {{error?: string, hint?: string, problems?: string[]}} body */
  constructor(status, body) {
    super([body.error || `HTTP ${status}`, ...(body.problems || []), body.hint || ''].filter(Boolean).join(' '));
    this.status = status;
  }
}

/** @param {string} path @returns {Promise<any>} */
export async function getJson(path) {
  return answer(await fetch(BASE + path, { credentials: 'same-origin' }));
}

/** @param {string} path @param {any} body @returns {Promise<any>} */
export async function postJson(path, body) {
  const headers = { 'content-type': 'application/json' };
  return answer(await fetch(BASE + path, { method: 'POST', credentials: 'same-origin', headers, body: JSON.stringify(body) }));
}

/** @param {Response} response */
async function answer(response) {
  const text = await response.text();
  /** @type {any} */
  let body = { error: text };
  try {
    body = JSON.parse(text);
  } catch {
    // A refusal at the door is plain text.
  }
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}

/**
 * Follow the server's events: `onPulse` once a second, `onGone` while nothing comes.
 * @param {(pulse: any) => void} onPulse @param {() => void} onGone
 */
export function follow(onPulse, onGone) {
  const source = new EventSource(BASE + '/events');
  let heard = Date.now();
  let between = 1000;
  source.addEventListener('pulse', (event) => {
    heard = Date.now();
    const pulse = JSON.parse(event.data);
    between = 1000 * pulse.every_s;
    onPulse(pulse);
  });
  const timer = setInterval(() => Date.now() - heard > 4 * between + 1000 && onGone(), 1000);
  return () => {
    clearInterval(timer);
    source.close();
  };
}
