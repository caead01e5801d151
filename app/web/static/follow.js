// News of one job: by server-sent events where the API has them, and always by polling, which is
// slow while events arrive. Nothing is asked while the page is hidden.

import { call, Lost, parse, Problem, retryAfterS } from "./api.js";
import { reached } from "./connection.js";

const POLL_S = 1; // unless the API says otherwise
const CHECK_S = 10; // beside events: they may be lost without a word
const REFUSED_MS = 30000; // until a stream that was refused is tried again

/** Call `show(job)` with every news until the job has ended; `gone()` if there is no such job. Returns a function that stops it. */
export function follow(job, show, gone) {
  const path = `/v1/jobs/${job.id}`;
  let stopped = false;
  let stream = null;
  let streamAt = 0; // not before
  let wake = () => {};

  const tell = (news) => {
    if (stopped || job.terminal) return;
    job = news;
    show(job);
    if (job.terminal) stop();
  };

  function open() {
    if (stream || stopped || job.terminal || !job.urls.events || Date.now() < streamAt) return;
    stream = new EventSource(`${path}/events`);
    const hear = (name, take) => stream.addEventListener(name, (event) => take(parse(event.data)));
    hear("status", ({ state, terminal, region }) => {
      // An end is shown when the whole job is known: its clip, its error.
      if (!terminal) tell({ ...job, state, region: { ...job.region, current: region } });
    });
    hear("queue", (queue) => tell({ ...job, queue, eta_seconds: queue.eta_seconds }));
    hear("progress", ({ step, steps, eta_seconds }) =>
      tell({ ...job, state: "processing", progress: { step, steps }, eta_seconds }));
    hear("completed", tell);
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
          tell(body);
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
