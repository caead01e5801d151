// Operations: reads the deployment every two seconds and sends the operators' verbs.

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

/** The regions as routing sees them; an API that does not route by load says less. */
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
  say($("fresh"), !readAt ? "Loading…" : paused ? `Last read ${seconds(age)} ago` : "Live");
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

/** Rows are kept by job and updated, so that an id can be selected and copied. */
function drawRows(name, jobs, cells) {
  $(`${name}-empty`).hidden = jobs.length > 0;
  $(`${name}-scroll`).hidden = jobs.length === 0;
  const body = $(name);
  const old = new Map([...body.rows].map((row) => [row.dataset.job, row]));
  jobs.forEach((job, place) => {
    const texts = cells(job);
    const row = old.get(job.id) ?? blank(job.id, texts, name);
    old.delete(job.id);
    texts.forEach((text, column) => say(row.cells[column], String(text)));
    if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
  });
  for (const row of old.values()) row.remove();
}

function blank(id, texts, name) {
  const heads = [...$(name).closest("table").tHead.rows[0].cells];
  const row = el("tr", {}, ...texts.map((_, column) => el("td", { className: heads[column].className })));
  row.dataset.job = id;
  return row;
}

function waitingRow(job) {
  const why = {
    worker: "no idle worker",
    backoff: `backing off, ${seconds(Math.max(0, job.backoff_seconds))}`,
    key_concurrency: "the key’s limit",
  }[job.waiting_for] ?? "placed, not started";
  const where = job.region === job.home ? job.home : `${job.home} → ${job.region}`;
  return [
    job.id, job.key, job.model, `${where} (${job.policy})`, job.priority,
    seconds(job.waited_seconds), seconds(Math.max(0, job.expires_in_seconds)), why,
  ];
}

function failureRow(job) {
  const { code, message } = job.error;
  return [job.id, job.state, job.region, job.attempts_begun, `${message} (${code})`, ago(job.finished_at)];
}

/** Drain or undrain a region; ask first before taking capacity away. */
async function decide(region, verb) {
  if (verb === "drain") {
    const text = "It gets no new work. Running jobs finish.";
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
