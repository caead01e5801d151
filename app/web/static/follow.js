// Updates of one job: by server-sent events where the API has them, and always by polling, which is
// slow while events arrive. A hidden page sends no requests.

import { call, Lost, parse, Problem, retryAfterS } from "./api.js";
import { reached } from "./connection.js";

const POLL_S = 1; // unless the API says otherwise
const CHECK_S = 10; // besides events, which may be lost silently
const REFUSED_MS = 30000; // until a stream that was refused is tried again

/** Call `show(job)` with every update until the job ends, `gone()` if there is no such job. Returns a function that stops it. */
export function follow(job, show, gone) {
  const path = `/v1/jobs/${job.id}`;
  let stopped = false;
  let stream = null;
  let streamAt = 0; // not before
  let wake = () => {};

  const update = (news) => {
    if (stopped || job.terminal) return;
    job = news;
    show(job);
    if (job.terminal) stop();
  };

  function open() {
    if (stream || stopped || job.terminal || !job.urls.events || Date.now() < streamAt) return;
    stream = new EventSource(`${path}/events`);
    const on = (name, take) => stream.addEventListener(name, (event) => take(parse(event.data)));
    on("status", ({ state, terminal, region }) => {
      // An end is shown when the whole job is known: its clip, its error.
      if (!terminal) update({ ...job, state, region: { ...job.region, current: region } });
    });
    on("queue", (queue) => update({ ...job, queue, eta_seconds: queue.eta_seconds }));
    on("progress", ({ step, steps, eta_seconds }) =>
      update({ ...job, state: "processing", progress: { step, steps }, eta_seconds }));
    on("completed", update);
    stream.addEventListener("error", () => {
      if (stream?.readyState === EventSource.CLOSED) {
        streamAt = Date.now() + REFUSED_MS;
        close();
      }
      wake();
    });
  }

  function close() {
    stream?.close();
    stream = null;
  }

  async function poll() {
    while (!stopped && !job.terminal) {
      let pauseS = POLL_S;
      try {
        if (document.hidden) {
          close();
        } else {
          const { body, headers } = await call("GET", path);
          update(body);
          open();
          pauseS = stream ? CHECK_S : retryAfterS(headers) ?? POLL_S;
        }
      } catch (error) {
        if (error instanceof Problem && error.status < 500 && error.status !== 429) {
          if (!stopped) gone(error);
          return stop();
        }
        if (error instanceof Lost) await reached();
        else pauseS = error.retryAfterS ?? POLL_S;
      }
      await new Promise((done) => {
        wake = done;
        setTimeout(done, pauseS * 1000);
      });
    }
  }

  const seen = () => { if (!document.hidden) wake(); };
  const stop = () => {
    stopped = true;
    document.removeEventListener("visibilitychange", seen);
    close();
    wake();
  };
  document.addEventListener("visibilitychange", seen);
  poll();
  return stop;
}
