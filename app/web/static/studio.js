// The Studio: connects the composer, the stage and the gallery.

import { allowed, call, Lost } from "./api.js";
import * as composer from "./composer.js";
import { confirm, showLink } from "./dialog.js";
import { $, clock, el } from "./dom.js";
import * as gallery from "./gallery.js";
import * as session from "./session.js";
import * as stage from "./stage.js";

const pictures = new Map(); // job id -> URL of its picture, for jobs of this visit
let deletes = false; // whether the API can delete jobs

function open(job) {
  stage.show(job, pictures.get(job.id), stageActions, gallery.put);
  gallery.mark(job.id);
}

function button(text, work, className = "") {
  return el("button", {
    type: "button", textContent: text, className,
    onclick: async (event) => {
      const own = event.currentTarget;
      if (own.getAttribute("aria-disabled")) return;
      own.setAttribute("aria-disabled", "true"); // not disabled, which would lose the focus
      try {
        await work(own);
      } catch (error) {
        $("stage-error").textContent = error.message;
        $("stage-error").scrollIntoView({ block: "nearest" });
      }
      own.removeAttribute("aria-disabled");
    },
  });
}

function stageActions(job) {
  if (!job.terminal) return [button("Cancel", (own) => stop(job, own))];
  const buttons = job.output
    ? [el("a", { href: job.output.url, download: `${job.id}.mp4`, textContent: "Download", className: "button" }),
       button("Copy link", (own) => share(job, own))]
    : [];
  buttons.push(button("Use these settings", () => composer.reuse(job)));
  if (deletes) buttons.push(button("Delete", () => remove(job)));
  return buttons;
}

function cardActions(job) {
  if (!job.terminal) return [named(button("Cancel", (own) => stop(job, own), "quiet"), job)];
  const buttons = job.output ? [named(button("Copy link", (own) => share(job, own), "quiet"), job)] : [];
  if (deletes) buttons.push(named(button("Delete", () => remove(job), "quiet"), job));
  return buttons;
}

/** Cards share button names, so each tells a screen reader its clip. */
function named(node, job) {
  node.setAttribute("aria-label", `${node.textContent}: ${job.prompt || "gentle motion"}`);
  return node;
}

async function stop(job, own) {
  const news = await stage.cancel(job);
  if (!news.terminal) own.textContent = "Canceling…"; // within one step
  gallery.put(news);
  if (stage.current() === job.id && news.terminal) open(news);
}

async function share(job, own) {
  const { output } = (await call("GET", `/v1/jobs/${job.id}`)).body;
  const until = clock(output.expires_at);
  try {
    await navigator.clipboard.writeText(output.url);
    const before = own.textContent;
    own.textContent = "Copied";
    own.title = `Anyone with this link can see the clip until ${until}.`;
    setTimeout(() => { own.textContent = before; }, 2000);
  } catch {
    await showLink("Link to the clip", `Anyone with this link can see the clip until ${until}.`, output.url);
  }
}

async function remove(job) {
  if (!(await confirm("Delete this clip?", "The picture and the clip will be deleted for good.", "Delete"))) return;
  await call("DELETE", `/v1/jobs/${job.id}`);
  if (stage.current() === job.id) stage.clear();
  gallery.remove(job.id);
}

composer.start((job, pictureUrl) => {
  pictures.set(job.id, pictureUrl);
  gallery.put(job);
  open(job);
  if (matchMedia("(max-width: 820px)").matches) $("stage").scrollIntoView({ block: "start" });
});
gallery.start(cardActions, (job) => {
  open(job);
  $("stage").scrollIntoView({ block: "nearest" });
});

session.start("jobs", $("studio"), async () => {
  // An API may lack DELETE. OPTIONS works for a path without a job.
  deletes = (await allowed("/v1/jobs/00000000-0000-0000-0000-000000000000")).includes("DELETE");
  await Promise.all([composer.fillChoices(), gallery.refresh()]).catch((error) => {
    if (!(error instanceof Lost)) throw error;
  });
});
