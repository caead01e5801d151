// Helpers for the document; how numbers and times are written.

export const $ = (id) => document.getElementById(id);

/** An element; `props` are properties, or attributes where the name has a dash. Text is never HTML. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

/** Set text only if it changes: screen readers repeat live regions at every write. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export function seconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 10 && !Number.isInteger(value)) return `${value.toFixed(1)} s`;
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

export function ago(time) {
  const past = (Date.now() - new Date(time)) / 1000;
  return past < 5 ? "just now" : `${seconds(Math.max(10, Math.round(past)))} ago`;
}

export const clock = (time) =>
  new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
