// The table of regions. Rows are kept and updated: a button keeps the focus.

import { $, el, say } from "./dom.js";

const rows = new Map(); // region -> its cells

/** `routed`: what the routing says of each region. Its reports are seconds old, the summary's counts are not. */
export function drawRegions(summary, routed, decide) {
  const more = new Map(routed.map((region) => [region.id, region]));
  for (const counted of summary.regions) {
    const region = { ...known(more.get(counted.id) ?? {}), ...counted };
    region.ready ??= counted.idle === null ? null : counted.idle + counted.busy;
    if (!rows.has(region.id)) rows.set(region.id, make(region, decide));
    update(rows.get(region.id), region);
  }
}

/** Null means unknown, and must not hide what is known. */
const known = (region) =>
  Object.fromEntries(Object.entries(region).filter(([, value]) => value !== null));

function make(region, decide) {
  const row = { drained: false };
  row.tag = el("span", { className: "state", hidden: true });
  for (const name of ["ready", "busy", "waiting"]) row[name] = el("td", { className: "n" });
  row.bar = el("i");
  row.mark = el("b");
  row.track = el("div", { className: "track" }, row.bar, row.mark);
  row.loadText = el("span");
  row.button = el("button", {
    type: "button", hidden: true,
    onclick: () => decide(region.id, row.drained ? "undrain" : "drain"),
  });
  $("regions").append(
    el("tr", {},
      el("th", { scope: "row" }, region.id, " ", row.tag), row.ready, row.busy, row.waiting,
      el("td", {}, el("div", { className: "load" }, row.track, row.loadText)),
      el("td", { className: "n" }, row.button)),
  );
  return row;
}

/** A region without capacity has no load: words say why. */
const IDLE = { drained: "takes no new jobs", no_workers: "no worker is ready", unknown: "no report" };

function update(row, region) {
  for (const name of ["ready", "busy", "waiting"]) say(row[name], String(region[name] ?? "?"));
  const down = region.state === "no_workers" || region.state === "unknown";
  const tag = region.drained ? "drained" : down ? "down" : region.cap !== undefined ? `cap ${region.cap}` : "";
  say(row.tag, tag);
  row.tag.hidden = !tag;
  row.tag.classList.toggle("failed", tag === "down");

  const busy = region.ready > 0 ? region.busy / region.ready : undefined;
  const idle = IDLE[region.state];
  const load = idle ? undefined : region.load ?? busy;
  row.track.hidden = Boolean(idle);
  row.track.classList.toggle("over", load > (region.ceiling ?? 1));
  row.bar.style.setProperty("--load", load ?? 0);
  row.mark.hidden = region.ceiling === undefined;
  row.mark.style.setProperty("--ceiling", region.ceiling ?? 0);
  const percent = (part) => `${Math.round(part * 100)} %`;
  say(row.loadText, idle ?? (load === undefined ? "unknown"
    : region.ceiling === undefined ? `${percent(load)} busy` : `${percent(load)} of ${percent(region.ceiling)}`));

  // An API without draining has no verb for it.
  row.button.hidden = region.drained === undefined;
  row.drained = Boolean(region.drained);
  say(row.button, row.drained ? "Undrain" : "Drain");
  row.button.setAttribute("aria-label", `${row.button.textContent} ${region.id}`);
}
