// The routing table as a heat map: rows are homes, columns are where their demand is served.

import { $, el, say, seconds } from "./dom.js";

export function drawRoutes({ table, data }) {
  const names = data.map((region) => region.id);
  const routed = table?.version !== undefined && table.version !== null;
  $("routes-scroll").hidden = !routed;
  say($("routes-note"), routed ? note(table) : "No routing table: every job goes home first, then by round trip.");
  if (!routed) return;
  $("routes-head").replaceChildren(
    el("tr", {}, el("th", { scope: "col", textContent: "Home" }),
      ...names.map((name) => el("th", { scope: "col", textContent: name }))));
  $("routes").replaceChildren(
    ...data.map((home) =>
      el("tr", {}, el("th", { scope: "row", textContent: home.id }),
        ...names.map((name) => share(home, name)))));
}

function note(table) {
  const parts = ["Percent of each home’s demand", `version ${table.version}`, `${seconds(table.age_s)} old`];
  if (table.mode && table.mode !== "normal") parts.push(`mode: ${table.mode}`);
  if (table.pinned) parts.push("pinned");
  if (table.overload) parts.push("all regions overloaded");
  if (table.shed > 0) parts.push(`refusing ${Math.round(table.shed * 100)} % of submits`);
  return parts.join(" · ");
}

function share(home, name) {
  const part = home.shares?.[name] ?? 0;
  const shown = part === 0 ? "·" : part < 0.01 ? "<1" : String(Math.round(part * 100));
  const node = el("td", { textContent: shown, title: `${home.id} → ${name}: ${(part * 100).toFixed(1)} %` });
  node.classList.toggle("home", home.id === name);
  node.classList.toggle("none", part === 0);
  node.style.setProperty("--share", part);
  return node;
}
