// Whether the service can be reached: people see a banner, code gets an event.

import { $ } from "./dom.js";

const PING_MS = 2000;
const GOOD_NEWS_MS = 3000;

const events = new EventTarget();
let away = false;

export const isAway = () => away;

/** Call `work` whenever the service is back after it was away. */
export const whenBack = (work) => events.addEventListener("back", work);

/** Resolves when the service is there. */
export const reached = () =>
  away ? new Promise((done) => events.addEventListener("back", done, { once: true })) : Promise.resolve();

/** A request got no answer. */
export function lost() {
  if (away) return;
  away = true;
  show("Connection lost. Your jobs keep running; this page is trying to reconnect.", false);
  setTimeout(ping, PING_MS);
}

async function ping() {
  try {
    const answer = await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(PING_MS) });
    if (answer.ok) return back();
  } catch {
    // Still away.
  }
  setTimeout(ping, PING_MS);
}

function back() {
  away = false;
  show("Connected again.", true);
  setTimeout(() => { if (!away) $("connection").hidden = true; }, GOOD_NEWS_MS);
  events.dispatchEvent(new Event("back"));
}

function show(text, good) {
  const banner = $("connection");
  banner.textContent = text;
  banner.classList.toggle("good", good);
  banner.hidden = false;
}

window.addEventListener("offline", lost);
