// @ts-check
// What every module of the page uses: the renderer, and requests to the console.
import { h, render, Fragment } from './vendor/preact.js';
import { useState, useEffect, useRef, useMemo } from './vendor/hooks.js';
import htm from './vendor/htm.js';
import { readJson } from './json.js';

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
    body = readJson(text);
  } catch {
    // A refusal at the door is plain text.
  }
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}

/**
 * Rows of JSON as they come: `onRow` gets each, and the last one is returned.
 * @param {string} path @param {(row: any) => void} onRow @returns {Promise<any>}
 */
export async function getRows(path, onRow) {
  const response = await fetch(BASE + path, { credentials: 'same-origin' });
  if (!response.ok || !response.body) return answer(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  let last = null;
  for (;;) {
    const { done, value } = await reader.read();
    text += value || '';
    const lines = text.split('\n');
    text = lines.pop() || '';
    for (const line of lines) onRow((last = readJson(line)));
    if (done) break;
  }
  if (!last) throw new Error('The server has stopped.');
  if (last.error) throw new Refused(200, last);
  return last;
}

const AGAIN_MS = 5000;

/**
 * Follow the server's events: `onPulse` once a second, `onGone` while nothing comes. A hidden page follows
 * nothing: a browser has six connections to a server, for all of its tabs.
 * @param {(pulse: any) => void} onPulse @param {() => void} onGone
 */
export function follow(onPulse, onGone) {
  /** @type {EventSource | null} */
  let source = null;
  let heard = Date.now();
  let between = 1000;
  const open = () => {
    source = new EventSource(BASE + '/events');
    source.addEventListener('pulse', (event) => {
      heard = Date.now();
      const pulse = JSON.parse(event.data);
      between = 1000 * pulse.every_s;
      onPulse(pulse);
    });
    heard = Date.now();
  };
  const close = () => {
    source?.close();
    source = null;
  };
  const look = () => (document.hidden ? close() : source || open());
  const timer = setInterval(() => {
    if (document.hidden) return;
    if (Date.now() - heard > 4 * between + 1000) onGone();
    // A browser does not come back by itself where it was refused.
    if (source?.readyState === EventSource.CLOSED && Date.now() - heard > AGAIN_MS) {
      close();
      open();
    }
  }, 1000);
  document.addEventListener('visibilitychange', look);
  look();
  return () => {
    clearInterval(timer);
    document.removeEventListener('visibilitychange', look);
    close();
  };
}
