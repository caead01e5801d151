"""What metrics, traces and logs learn of a worker and its attempts, kept out of their way."""

import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial, wraps
from time import monotonic, time_ns
from typing import ParamSpec

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from structlog.contextvars import bind_contextvars, get_contextvars

from app import metrics, tracing
from app.store.job.records import BegunJob
from workers.gpu import device
from workers.gpu.worker import Worker

P = ParamSpec("P")
STATES = ("idle", "busy", "draining", "unready")


@dataclass
class _Begun:
    """An attempt that has begun: its span, and the stages that it has come through."""

    span: Span
    region: str
    stages: set[str] = field(default_factory=set)


_begun: ContextVar[_Begun | None] = ContextVar("begun", default=None)
_last_step = threading.local()


def start(worker: Worker) -> None:
    """Show what the worker is. Call once."""
    metrics.expect_attempts(worker.pool.region)
    metrics.model_info.labels(worker.profile.name, worker.engine.version).set(1)
    for state in STATES:
        slot = metrics.slots.labels(worker.pool.region, worker.pool.profile, state)
        slot.set_function(partial(_is, worker, state))
    device.show()


def _is(worker: Worker, state: str) -> float:
    return float(worker.presence.state == state)


def attempt(run: Callable[P, str]) -> Callable[P, str]:
    """Make each call of `run`, which returns an attempt's outcome, one attempt of a job's trace.

    The call has a context of its own, so whatever `begun` puts into its log lines ends with it.
    """

    @wraps(run)
    def observed(*args: P.args, **kwargs: P.kwargs) -> str:
        own = copy_context()
        outcome = "not_reported"  # the database was away; the reaper ends it
        try:
            outcome = own.run(run, *args, **kwargs)
        except Exception:
            if own.get(_begun) is not None:
                # For the caller's line about it; the caller unbinds it.
                bind_contextvars(trace_id=own.run(get_contextvars).get("trace_id"))
            raise
        finally:
            found = own.get(_begun)
            if found is not None:
                _ended(found, outcome)
        return outcome

    return observed


def begun(job: BegunJob, worker: Worker) -> None:
    """The attempt has begun. Its spans and log lines name the job from here on."""
    region = worker.pool.region
    span = tracing.tracer.start_span(
        "attempt",
        tracing.context_of(job.traceparent),
        kind=SpanKind.CONSUMER,
        attributes={
            "job.id": str(job.id),
            "job.fence": job.fence,
            "job.begun": job.begun,
            "stillmotion.region": region,
            "stillmotion.worker": worker.name,
        },
    )
    context.attach(trace.set_span_in_context(span))
    bind_contextvars(**tracing.about(job.id, job.traceparent, fence=job.fence, region=region))
    _begun.set(_Begun(span, region))
    if job.begun == 1:
        waited_s = (job.started_at - job.created_at).total_seconds()
        metrics.wait_seconds.labels(region, job.priority).observe(max(0.0, waited_s))
    if job.placed_at is not None:
        handed_s = (job.started_at - job.placed_at).total_seconds()
        metrics.placed_to_begun_seconds.labels(region).observe(max(0.0, handed_s))


def stage(name: str, seconds: float, ended: float | None = None) -> None:
    """The attempt came through a stage, which ended at the monotonic time `ended`, or now."""
    metrics.stage_seconds.labels(name).observe(seconds)
    ago_s = 0.0 if ended is None else monotonic() - ended
    tracing.note(
        name, context.get_current(), {}, seconds=seconds, ended_ns=time_ns() - int(ago_s * 1e9)
    )
    found = _begun.get()
    if found is not None:
        found.stages.add(name)


def step(number: int | None) -> None:
    """Denoising step `number` is done, in the thread that renders; None: something else is."""
    if number is None:
        return
    now = monotonic()
    before, at = getattr(_last_step, "seen", (0, now))
    if number == before + 1 and before > 0:
        metrics.step_seconds.observe(now - at)
    _last_step.seen = (number, now)


def _ended(found: _Begun, outcome: str) -> None:
    found.span.set_attribute("outcome", outcome)
    if outcome != "succeeded":
        found.span.set_status(StatusCode.ERROR, outcome)
    found.span.end()
    if outcome == "superseded":
        metrics.leases_lost.labels(found.region).inc()
        if "upload" in found.stages:
            metrics.fenced_finishes.labels(found.region).inc()
