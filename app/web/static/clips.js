// Videos of jobs. Their URLs are signed and expire; every response has a new one.

import { call } from "./api.js";
import { el } from "./dom.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** The clip, playing unless the user prefers reduced motion. */
export function clip(job) {
  const video = player(job, { loop: true, controls: true, autoplay: !calm.matches, preload: "auto" });
  video.setAttribute("aria-label", `Clip: ${job.prompt || "gentle motion"}`);
  return video;
}

/** The picture of a clip: its first frame is the picture itself. */
export function still(job) {
  const video = player(job, { preload: "metadata", tabIndex: -1 });
  video.setAttribute("aria-label", "The picture");
  return video;
}

/** A clip as a picture for the gallery. */
export function thumbnail(job) {
  const video = player(job, { preload: "metadata", tabIndex: -1 });
  video.setAttribute("aria-hidden", "true");
  return video;
}

/** A moment into the clip, or some browsers show nothing before it plays. */
const first = (url) => `${url}#t=0.001`;

function player(job, props) {
  const video = el("video", { muted: true, playsInline: true, ...props });
  video.setAttribute("muted", "");
  let asked = false;
  video.addEventListener("error", async () => {
    if (asked) return;
    asked = true; // once: the URL may have expired
    const fresh = await call("GET", `/v1/jobs/${job.id}`).catch(() => null);
    if (fresh?.body.output) video.src = first(fresh.body.output.url);
  });
  video.addEventListener("loadeddata", () => { asked = false; });
  video.src = first(job.output.url);
  return video;
}
