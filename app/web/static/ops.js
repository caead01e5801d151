// Operations: reads the deployment every two seconds, and carries the operators' verbs.

import { call, Lost, Problem } from "./api.js";
import { isAway } from "./connection.js";
import { confirm } from "./dialog.js";
import { $, ago, el, say, seconds } from "./dom.js";
import { drawRegions } from "./ops_regions.js";
import { drawRoutes } from "./ops_routes.js";
import * as session from "./session.js";

const EVERY_MS = 2000;

let reading = false;
let readAt = 0;
let running = false;

async function read() {
  if (reading || document.hidden || $("ops").hidden) return;
  reading = true;
  try {
    const [summary, regions] = await Promise.all([call("GET", "/v1/ops/summary"), regionsNow()]);
    readAt = Date.now();
    say($("ops-error"), "");
    draw(summary.body, regions);
  } catch (error) {
    if (!(error instanceof Lost)) say($("ops-error"), error.message);
  } finally {
    reading = false;
    fresh();
  }
}

/** What the routing says of the regions; an API that does not route by load says less. */
async function regionsNow() {
  try {
    return (await call("GET", "/v1/regions")).body;
  } catch (error) {
    if (error instanceof Problem) return { data: [] };
    throw error;
  }
}

function fresh() {
  const age = readAt ? (Date.now() - readAt) / 1000 : 0;
  const paused = isAway() || age > 3 * (EVERY_MS / 1000);
  $("fresh").classList.toggle("paused", paused);
  say($("fresh"), !readAt ? "Reading…" : paused ? `Last read ${seconds(age)} ago` : "Live");
}

function draw(summary, regions) {
  $("flower").hidden = !summary.flower_url;
  if (summary.flower_url) $("flower").href = summary.flower_url;
  drawTiles(summary);
  drawRegions(summary, regions.data, decide);
  drawRoutes(regions);
  drawRows("waiting", summary.waiting, waitingRow);
  drawRows("failures", summary.failures, failureRow);
}

function drawTiles({ jobs, ended, times, counted_up_to: most }) {
  const count = (number) => (number >= most ? `${most}+` : String(number));
  const span = `of the last ${ended.sampled}`;
  const tiles = [
    ["Waiting", count(jobs.queued), ""],
    ["Starting", count(jobs.starting), ""],
    ["Processing", count(jobs.processing), ""],
    ["Succeeded", String(ended.succeeded), span],
    ["Failed or expired", String(ended.failed + ended.expired), span, ended.failed + ended.expired > 0],
    ["Queue time, p50", seconds(times.queue.p50_seconds), `p99 ${seconds(times.queue.p99_seconds)}`],
    ["Render time, p50", seconds(times.render.p50_seconds), `p99 ${seconds(times.render.p99_seconds)}`],
  ];
  $("tiles").replaceChildren(
    ...tiles.map(([name, value, more, bad]) =>
      el("div", { className: bad ? "bad" : "" },
        el("dt", { textContent: name }), el("dd", { textContent: value }),
        ...(more ? [el("dd", { textContent: more })] : []))),
  );
}

function drawRows(name, rows, row) {
  $(`${name}-empty`).hidden = rows.length > 0;
  $(`${name}-scroll`).hidden = rows.length === 0;
  $(name).replaceChildren(...rows.map((one) => el("tr", {}, ...row(one))));
}

const cell = (text, props = {}) => el("td", { textContent: text, ...props });
const number = (text) => cell(text, { className: "n" });
// The end of an id: its beginning is the time, and alike for all.
const idCell = (id) => el("td", {}, el("code", { textContent: `…${id.slice(-12)}`, title: id }));

function waitingRow(job) {
  const why = job.state === "starting" ? "placed, not begun"
    : job.backoff_seconds > 0 ? `backing off, ${seconds(job.backoff_seconds)}` : "no idle worker";
  const where = job.region === job.home ? job.home : `${job.home} → ${job.region}`;
  return [
    idCell(job.id), cell(job.key), cell(job.model), cell(`${where} (${job.policy})`), cell(job.priority),
    number(seconds(job.waited_seconds)), number(seconds(Math.max(0, job.expires_in_seconds))), cell(why),
  ];
}

function failureRow(job) {
  return [
    idCell(job.id), el("td", {}, el("span", { className: `state ${job.state}`, textContent: job.state })),
    cell(job.region), number(job.attempts_begun),
    el("td", {}, el("code", { textContent: job.error.code ?? "" }), ` ${job.error.message}`),
    number(ago(job.finished_at)),
  ];
}

/** Drain a region or take it back, after a question for what takes capacity away. */
async function decide(region, verb) {
  if (verb === "drain") {
    const text = "It gets no more work. What its workers do now is finished.";
    if (!(await confirm(`Drain ${region}?`, text, "Drain", "Leave it"))) return;
  }
  try {
    await call("POST", `/v1/regions/${encodeURIComponent(region)}/${verb}`);
    say($("ops-error"), "");
  } catch (error) {
    say($("ops-error"), error.message);
  }
  await read();
}

session.start("admin", $("ops"), () => {
  read();
  if (running) return;
  running = true;
  setInterval(() => { fresh(); read(); }, EVERY_MS);
  document.addEventListener("visibilitychange", read);
});
