// One job: its progress, and its clip next to its picture.

import { call } from "./api.js";
import { clip, still } from "./clips.js";
import { $, el, say, seconds } from "./dom.js";
import { follow } from "./follow.js";
import { understood } from "./understood.js";

const WAITS = {
  backoff: "Waiting briefly before the next try",
  key_concurrency: "Waiting for another clip with this key to finish",
};
const TEXTS = {
  canceled: "Stopped.",
  failed: "The clip could not be made.",
  expired: "No worker was free in time.",
};

const LATE_S = 2; // an estimate may be wrong by this much without a word

let stop = () => {};
let shown = null; // the job
let endsAt = null; // when it is expected to be done, in ms; null: unknown
let drawn = ""; // what the pair shows
let offered = ""; // for what the buttons are

/** Put a job on the stage and follow it. `actions(job)` makes its buttons; `changed(job)` is called with every update. */
export function show(job, pictureUrl, actions, changed) {
  stop();
  drawn = offered = "";
  shown = null;
  endsAt = null;
  const update = (news) => {
    expect(news);
    shown = news;
    draw(news, pictureUrl);
    offer(news, actions);
    changed(news);
  };
  update(job);
  stop = job.terminal ? () => {} : follow(job, update, (problem) => { $("stage-error").textContent = problem.message; });
}

/** Set the clock by a new estimate. Updates without one repeat the last, which has become shorter since. */
function expect(news) {
  const eta = news.eta_seconds ?? null;
  if (eta === null) endsAt = null;
  else if (eta !== shown?.eta_seconds) endsAt = Date.now() + eta * 1000;
}

// Steps may be many seconds apart: between them the time left goes on falling.
setInterval(() => {
  if (shown && !shown.terminal) say($("stage-text"), text(shown));
}, 1000);

export const current = () => shown?.id;

/** Empty the stage. */
export function clear() {
  stop();
  shown = null;
  $("stage-job").hidden = true;
  $("stage-empty").hidden = false;
}

function draw(job, pictureUrl) {
  $("stage-empty").hidden = true;
  $("stage-job").hidden = false;
  const state = $("stage-state");
  if (state.textContent !== job.state) {
    state.className = `state ${job.state}`;
    state.textContent = job.state;
    say($("announce"), `The clip is ${job.state}. ${text(job)}`);
  }
  say($("stage-text"), text(job));
  say($("stage-error"), job.error && job.state !== "canceled" ? job.error.message : "");
  bar(job);
  pair(job, pictureUrl);
  facts(job);
}

function text(job) {
  const { step, steps } = job.progress;
  switch (job.state) {
    case "queued": return join(...waits(job.queue), eta());
    case "starting": return join(`A worker${job.region.current ? ` in ${job.region.current}` : ""} is starting it`, eta());
    case "processing":
      return join(step >= steps ? "Writing the clip" : `Step ${step} of ${steps}`, eta());
    case "succeeded": return `Ready${took(job)}.`;
    default: return job.error?.code === "deadline_exceeded" ? "Its deadline passed." : TEXTS[job.state] ?? "";
  }
}

const join = (...parts) => parts.filter(Boolean).join(" · ");

function waits(queue) {
  const why = queue?.workers === 0 ? "No worker serves this model now" : WAITS[queue?.waiting_for];
  if (!why) return [ahead(queue?.position)];
  return [why, queue.position > 0 ? ahead(queue.position) : ""];
}

function ahead(position) {
  if (position === undefined) return "Waiting for a worker";
  if (position === 0) return "Next in line";
  return `${position} ${position === 1 ? "job" : "jobs"} ahead`;
}

function eta() {
  if (endsAt === null) return "";
  const left = (endsAt - Date.now()) / 1000;
  return left > -LATE_S ? `about ${seconds(Math.max(1, Math.round(left)))} left` : "taking longer than expected";
}

function took(job) {
  const span = (new Date(job.finished_at) - new Date(job.started_at)) / 1000;
  return job.started_at && span >= 0 ? `, rendered in ${seconds(span)}` : "";
}

function bar(job) {
  const progress = $("stage-progress");
  progress.hidden = job.terminal;
  const known = job.state === "processing" && job.progress.step > 0;
  if (known) {
    progress.max = job.progress.steps;
    progress.value = job.progress.step;
  } else {
    progress.removeAttribute("value");
  }
}

function pair(job, pictureUrl) {
  const want = `${job.id} ${job.output ? "clip" : job.terminal ? "none" : "wait"}`;
  if (want === drawn) return;
  drawn = want;
  const left = pictureUrl ? el("img", { src: pictureUrl, alt: "The picture" }) : job.output ? still(job) : null;
  const right = job.output ? clip(job) : job.terminal ? null : el("div", { className: "pending", textContent: "The clip appears here" });
  $("stage-pair").replaceChildren(
    ...[[left, "Picture"], [right, "Clip"]]
      .filter(([node]) => node)
      .map(([node, caption]) => el("figure", {}, node, el("figcaption", { textContent: caption }))),
  );
}

function facts(job) {
  const rows = [
    ["Prompt", job.prompt || "none"],
    ...(job.prompt_understood ? [["Understood", understood(job.prompt_understood)]] : []),
    ...(job.prompt_understood?.hint ? [["Not possible", job.prompt_understood.hint]] : []),
    ["Motion", `${job.motion}×${job.loop ? ", loop" : ""}`],
    ["Seed", job.seed],
    ["Region", job.region.current && job.region.current !== job.region.home ? `${job.region.home} → ${job.region.current}` : job.region.home],
  ];
  const list = $("stage-facts");
  const key = JSON.stringify(rows);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(
    ...rows.map(([name, value]) => el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: value }))),
  );
}

/** Buttons change when the job ends, and not between: a click takes longer than a step. */
function offer(job, actions) {
  const now = `${job.id} ${job.terminal}`;
  if (now === offered) return;
  offered = now;
  const focused = $("stage-actions").contains(document.activeElement);
  $("stage-actions").replaceChildren(...actions(job));
  if (focused) $("stage-actions").firstElementChild?.focus();
}

/** Ask the service to stop a job; returns the job as it is then. */
export async function cancel(job) {
  return (await call("POST", `/v1/jobs/${job.id}/cancel`)).body;
}
