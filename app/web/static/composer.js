// The form: a picture, what should move, and how.

import { call, Lost, randomKey } from "./api.js";
import { reached } from "./connection.js";
import { $, el } from "./dom.js";

const EXAMPLES = ["gentle waves", "slow zoom in", "leaves sway in a breeze", "pan to the left", "handheld, soft ripple"];
const FIELDS = ["image", "prompt", "negative_prompt", "motion", "seed", "model", "size", "region", "policy"];
const OPTIONS = ["prompt", "negative_prompt", "motion", "loop"]; // some models have no use for them
const UPLOAD_MS = 120000;

let picture = null; // the chosen File
let pictureUrl = "";
let submitting = false;
let models = []; // what the deployment serves

/** `submitted(job, pictureUrl)` is called with every accepted job. */
export function start(submitted) {
  $("examples").append(
    ...EXAMPLES.map((text) =>
      el("button", { type: "button", textContent: text, onclick: () => add(text) })),
  );
  $("motion").addEventListener("input", showMotion);
  $("model").addEventListener("change", fitModel);
  $("pick").addEventListener("click", () => $("image").click());
  $("image").addEventListener("change", () => { choose($("image").files[0]); $("image").value = ""; });
  takeDrops();
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file && !$("studio").hidden) {
      event.preventDefault();
      choose(file);
    }
  });
  $("composer").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (submitting) return;
    submitting = true;
    await submit(submitted);
    submitting = false;
  });
}

/** Fill the choices with what this deployment has. */
export async function fillChoices() {
  const [regions, served] = await Promise.all([listOf("/v1/regions"), listOf("/v1/models")]);
  models = served;
  $("region").replaceChildren(
    ...regions.map((region) =>
      el("option", {
        value: region.id,
        textContent: region.id + (region.drained ? " (drained)" : ""),
        selected: Boolean(region.default),
      })),
  );
  $("model").replaceChildren(
    ...models.map((model) => el("option", { value: model.id, textContent: model.id, selected: model.default })),
  );
  $("model-field").hidden = models.length < 2;
  fitModel();
}

/** Offer what the chosen model makes use of, and say what it makes. */
function fitModel() {
  const model = chosen();
  for (const option of OPTIONS) $(`${option}-field`).hidden = !uses(option);
  const sides = [...new Set((model?.sizes ?? []).map(({ width, height }) => Math.max(width, height)))];
  $("size").replaceChildren(
    ...sides.sort((a, b) => a - b).map((side) =>
      el("option", { value: side, textContent: `${side} pixels`, selected: side === model.size.default })),
  );
  $("size-field").hidden = sides.length < 2;
  $("model-facts").textContent = model?.sizes ? facts(model) : "";
  $("model-facts").hidden = !model?.sizes;
}

function chosen() {
  return models.find(({ id }) => id === $("model").value);
}

function uses(option) {
  return chosen()?.options?.includes(option) ?? option !== "negative_prompt"; // few take that one
}

function facts({ id, frames, fps, sizes }) {
  const shapes = sizes.map(({ width, height }) => `${width}×${height}`);
  const all = shapes.length < 2 ? shapes[0] : `${shapes.slice(0, -1).join(", ")} or ${shapes.at(-1)}`;
  return `${id} makes ${frames.default} frames, ${fps.default} a second, of ${all}. Your picture is cropped to the nearest shape.`;
}

async function listOf(path) {
  for (;;) {
    try {
      return (await call("GET", path)).body.data;
    } catch (error) {
      if (!(error instanceof Lost)) return [];
      await reached();
    }
  }
}

/** Copy a job's settings, for another clip like it. */
export function reuse(job) {
  $("prompt").value = job.prompt;
  $("negative_prompt").value = job.negative_prompt;
  $("motion").value = job.motion;
  $("loop").checked = job.loop;
  $("seed").value = job.seed;
  $("more").open = true;
  showMotion();
  (picture ? $("prompt") : $("pick")).focus();
}

function showMotion() {
  const value = Number($("motion").value);
  $("motion-value").textContent = value === 0 ? "still" : `${value.toFixed(1)}×`;
}

function add(text) {
  const field = $("prompt");
  const before = field.value.trim();
  if (!before.includes(text)) field.value = before ? `${before}, ${text}` : text;
  field.focus();
}

function takeDrops() {
  const drop = $("drop");
  const files = (event) => event.dataTransfer.types.includes("Files");
  // Over the whole page: a picture that misses the field must not replace the page.
  for (const name of ["dragover", "drop"]) {
    document.addEventListener(name, (event) => { if (files(event)) event.preventDefault(); });
  }
  document.addEventListener("dragenter", (event) => { if (files(event)) drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    choose(event.dataTransfer.files[0]);
  });
}

function choose(file) {
  if (!file) return;
  fault("image", "");
  picture = file;
  // The old URL is not revoked: the current clip is shown next to its picture.
  pictureUrl = URL.createObjectURL(file);
  const preview = $("preview");
  preview.onload = () => filled(true);
  preview.onerror = () => {
    filled(false);
    // Few browsers show these, and for HEIC some do not even know the type.
    if (/^image\/(tiff|hei[cf]|avif)$/.test(file.type) || /\.(hei[cf]|avif)$/i.test(file.name)) {
      $("pick-label").textContent = file.name;
      return;
    }
    picture = null;
    fault("image", `“${file.name}” is not a picture this browser can read. Use JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF.`);
  };
  preview.src = pictureUrl;
}

function filled(yes) {
  $("preview").hidden = !yes;
  $("drop").classList.toggle("filled", yes);
  $("pick-label").textContent = yes ? "Change" : "Choose a picture";
}

async function submit(submitted) {
  for (const field of [...FIELDS, "form"]) fault(field, "");
  if (!picture) {
    fault("image", "Choose a picture first.");
    $("pick").focus();
    return;
  }
  const button = $("submit");
  button.setAttribute("aria-busy", "true");
  button.textContent = "Sending…";
  const url = $("preview").hidden ? "" : pictureUrl; // nothing to show of a HEIC
  try {
    submitted(await send(formData()), url);
  } catch (error) {
    explain(error);
  } finally {
    button.removeAttribute("aria-busy");
    button.textContent = "Animate";
  }
}

function formData() {
  const form = new FormData();
  form.set("image", picture, "picture");
  if (uses("motion")) form.set("motion", $("motion").value);
  if (uses("loop")) form.set("loop", String($("loop").checked));
  for (const name of ["prompt", "negative_prompt", "seed", "region", "policy", "model", "size"]) {
    const value = $(name).value.trim();
    if (value && (!OPTIONS.includes(name) || uses(name))) form.set(name, value);
  }
  return form;
}

/** The key makes retries safe: a submit whose response was lost is sent again and makes one job. */
async function send(form) {
  const headers = { "Idempotency-Key": randomKey() };
  for (;;) {
    try {
      return (await call("POST", "/v1/jobs", { form, headers, timeoutMs: UPLOAD_MS })).body;
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      $("submit").textContent = "Waiting for the connection…";
      await reached();
      $("submit").textContent = "Sending…";
    }
  }
}

function explain(error) {
  const seen = [];
  for (const { pointer, detail } of error.errors ?? []) {
    const field = pointer.split("/")[1];
    if (FIELDS.includes(field)) {
      fault(field, detail);
      seen.push(field);
    }
  }
  if (!seen.length) {
    const wait = error.retryAfterS ? ` Try again in ${Math.ceil(error.retryAfterS)} s.` : "";
    return fault("form", error.message + wait);
  }
  const first = FIELDS.find((field) => seen.includes(field));
  if (["seed", "model", "size", "region", "policy"].includes(first)) $("more").open = true;
  (first === "image" ? $("pick") : $(first)).focus();
}

function fault(field, text) {
  $(`${field}-error`).textContent = text;
  const control = field === "image" ? $("pick") : $(field);
  if (text) control?.setAttribute("aria-invalid", "true");
  else control?.removeAttribute("aria-invalid");
}
