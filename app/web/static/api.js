// Requests to the API. They fail in two ways: the service refuses (Problem), or does not respond (Lost).

import { lost } from "./connection.js";

const TIMEOUT_MS = 15000;

/** A response of application/problem+json: `code`, `detail`, and `errors` with JSON pointers. */
export class Problem extends Error {
  constructor(status, body, retryAfterS) {
    super(body.detail || `The service responded with ${status}.`);
    this.status = status;
    this.code = body.code || "";
    this.errors = body.errors || [];
    this.retryAfterS = retryAfterS;
  }
}

export class Lost extends Error {}

export const SESSION_ENDED = "session-ended";

/** Returns {body, headers}. Throws Problem or Lost. */
export async function call(method, path, { json, form, headers = {}, timeoutMs = TIMEOUT_MS } = {}) {
  const init = { method, headers: { ...headers }, signal: AbortSignal.timeout(timeoutMs), cache: "no-store" };
  if (json !== undefined) {
    init.body = JSON.stringify(json);
    init.headers["Content-Type"] = "application/json";
  } else if (form) {
    init.body = form;
  }
  let answer, body;
  try {
    answer = await fetch(path, init);
    body = (answer.headers.get("Content-Type") || "").includes("json") ? parse(await answer.text()) : {};
  } catch (error) {
    lost();
    throw new Lost("The service cannot be reached.", { cause: error });
  }
  if (answer.ok) return { body, headers: answer.headers };
  if (answer.status === 401 && path !== "/v1/session") window.dispatchEvent(new Event(SESSION_ENDED));
  throw new Problem(answer.status, body, retryAfterS(answer.headers));
}

/** JSON, with seeds as text: they have up to 63 bits, and a number here has 53. */
export const parse = (text) => JSON.parse(text.replace(/"seed":\s*(\d+)/g, '"seed":"$1"'));

/** Seconds to wait before the next poll, as the service asks; null if it does not. */
export function retryAfterS(headers) {
  const value = Number.parseFloat(headers.get("Retry-After"));
  return Number.isFinite(value) && value >= 0 ? Math.min(value, 60) : null;
}

/** The methods that a path supports. */
export async function allowed(path) {
  try {
    const { headers } = await call("OPTIONS", path);
    return (headers.get("Allow") || "").split(/\s*,\s*/);
  } catch {
    return [];
  }
}

/** 128 random bits; crypto.randomUUID exists over TLS only. */
export const randomKey = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
