// The jobs of the key, newest first. Cards are kept and updated, so that focus and videos stay.

import { call, Lost } from "./api.js";
import { thumbnail } from "./clips.js";
import { whenBack } from "./connection.js";
import { $, ago, clock, el, say } from "./dom.js";

const PAGE = 24;
const REFRESH_MS = 5000; // while a job is under way

const cards = new Map(); // id -> {job, node, ...}
let next = null; // the cursor of older jobs
let makeActions = () => [];
let open = () => {};

export function start(actions, opened) {
  makeActions = actions;
  open = opened;
  $("older").addEventListener("click", older);
  whenBack(refresh);
  setInterval(() => {
    const live = [...cards.values()].some(({ job }) => !job.terminal);
    if (live && !document.hidden) refresh();
  }, REFRESH_MS);
}

/** Read the newest page again. */
export async function refresh() {
  const page = await read("");
  if (!page) return;
  for (const job of [...page.data].reverse()) put(job);
  if (next === null) paging(page);
}

async function older() {
  const page = await read(`&after=${next}`);
  if (!page) return;
  const firstNew = page.data[0]?.id;
  for (const job of page.data) put(job, "end");
  paging(page);
  cards.get(firstNew)?.thumb.focus();
}

async function read(more) {
  try {
    return (await call("GET", `/v1/jobs?limit=${PAGE}${more}`)).body;
  } catch (error) {
    if (!(error instanceof Lost)) say($("gallery-empty"), error.message);
    return null;
  }
}

function paging(page) {
  next = page.has_more ? page.next : "";
  $("older").hidden = !page.has_more;
  $("gallery-empty").hidden = cards.size > 0;
}

/** Show a job as it is now; a new job goes first. */
export function put(job, where = "start") {
  let card = cards.get(job.id);
  if (!card) {
    card = make(job);
    cards.set(job.id, card);
    if (where === "start") $("cards").prepend(card.node);
    else $("cards").append(card.node);
    $("gallery-empty").hidden = true;
  }
  // Updates may arrive out of order: an ended job stays ended.
  if (card.job.terminal && !job.terminal) return;
  card.job = job;
  draw(card);
}

export function remove(id) {
  const card = cards.get(id);
  if (!card) return;
  const near = card.node.nextElementSibling ?? card.node.previousElementSibling;
  card.node.remove();
  cards.delete(id);
  $("gallery-empty").hidden = cards.size > 0;
  (near?.querySelector("button") ?? $("pick")).focus();
}

/** Mark the card of the job that is on the stage. */
export function mark(id) {
  for (const [of, { node, thumb }] of cards) {
    node.classList.toggle("on", of === id);
    if (of === id) thumb.setAttribute("aria-current", "true");
    else thumb.removeAttribute("aria-current");
  }
}

function make(job) {
  const card = { job, drawn: "" };
  card.state = el("span", { className: "state" });
  card.thumb = el("button", { type: "button", className: "thumb", onclick: () => open(card.job) }, card.state);
  card.time = el("time", { dateTime: job.created_at, title: clock(job.created_at) });
  card.actions = el("div", { className: "actions" });
  card.node = el(
    "li", { className: "card" },
    card.thumb,
    el("div", { className: "text" },
      el("p", { className: "title", textContent: name(job), title: job.prompt }), card.time),
    card.actions,
  );
  return card;
}

const name = (job) => job.prompt || "Gentle motion";

function draw(card) {
  const { job } = card;
  say(card.time, ago(job.created_at));
  const moving = job.state === "processing" ? ` ${job.progress.step}/${job.progress.steps}` : "";
  say(card.state, job.state + moving);
  card.state.className = `state ${job.state}`;
  card.thumb.setAttribute("aria-label", `Open: ${name(job)}, ${job.state}`);
  const now = `${job.terminal} ${Boolean(job.output)}`;
  if (now === card.drawn) return;
  card.drawn = now;
  card.thumb.replaceChildren(job.output ? thumbnail(job) : card.state);
  const focused = card.actions.contains(document.activeElement);
  card.actions.replaceChildren(...makeActions(job));
  if (focused) (card.actions.querySelector("button") ?? card.thumb).focus();
}
