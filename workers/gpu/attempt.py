"""One attempt, from Begin to Finish. Never heard of Celery."""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any, TypeVar
from uuid import UUID

import redis
import structlog
from sqlalchemy import Connection, Row

from app.broker import progress
from app.broker.connections import WEBHOOK_DUE, wake
from app.domain.errors import (
    Canceled,
    DatabaseUnavailable,
    StorageUnavailable,
    Superseded,
    classify,
)
from app.domain.routing.pacing import retry_delay
from app.objects import Objects
from app.store.job import attempts, jobs, slots
from app.telemetry import attempts_ended, eta_error
from stillmotion.backoff import full_jitter
from stillmotion.errors import StillmotionError
from stillmotion.states import JobState, Policy
from workers.engines.base import RenderSpec
from workers.gpu.lease_keeper import LeaseKeeper
from workers.gpu.worker import Worker
from workers.media import provenance
from workers.media.decode import decode_mp4, report_frames

log = structlog.get_logger(__name__)

BEGIN_PATIENCE_S = 20.0  # for a database that does not answer, before the message goes back
UPLOAD_TRIES = 4
PROGRESS_PAUSE_S = 5.0  # after a Redis that did not answer
T = TypeVar("T")


def run(worker: Worker, job_id: UUID, fence: int) -> str:
    """Run one attempt and return its outcome, for the log.

    Delivery is at least once; the fence makes it safe. Raises DatabaseUnavailable if the attempt
    could not begin, or its end could not be reported before its limit: then the reaper ends it.
    """
    job = _patiently(lambda: _begin(worker, job_id, fence), until=monotonic() + BEGIN_PATIENCE_S)
    if job is None:
        log.info("stale message dropped")
        return "stale"
    worker.presence.begun(job.token)
    _announce(worker, job)
    keeper = LeaseKeeper(
        lambda step: _once(worker, lambda tx: attempts.renew(tx, job_id, fence, step=step)),
        stall_limit_s=worker.profile.stall_limit_s,
        attempt_limit_s=worker.profile.attempt_limit_s,
        on_stall=worker.on_stall,
    )
    with keeper:
        try:
            outcome = _render(worker, job, keeper)
        except Superseded:
            outcome = "superseded"
        except Canceled:
            outcome = _stop(worker, job, keeper)
        except Exception as error:
            if not isinstance(error, StillmotionError):
                log.exception("unexpected error")
            outcome = _fail(worker, job, keeper, classify(error))
    attempts_ended.labels(outcome).inc()
    _announce(worker, job)
    if outcome == "succeeded" and job.predicted_s is not None:
        took_s = (datetime.now(UTC) - job.created_at).total_seconds()
        eta_error.observe(abs(job.predicted_s - took_s) / took_s)
    if job.slot is not None:
        _pass_on_slot(worker, job)
    if job.webhook_url is not None or job.has_webhooks:
        wake(worker.client, WEBHOOK_DUE)
    log.info("attempt ended", outcome=outcome)
    return outcome


def _announce(worker: Worker, job: Row[Any]) -> None:
    """Spare those who wait for the job a part of their polling."""
    with suppress(redis.RedisError):
        progress.changed(worker.client, job.id)


def _pass_on_slot(worker: Worker, job: Row[Any]) -> None:
    """Let the next job of a key with a concurrency limit wait for a worker, now."""
    try:
        with worker.store.begin() as tx:
            granted = slots.grant(tx, job.owner_id, worker.settings.key_concurrency or None)
    except DatabaseUnavailable as error:
        log.warning("slot left to the reaper", error=error.detail)
        return
    if granted:
        wake(worker.client)


def _begin(worker: Worker, job_id: UUID, fence: int) -> Row[Any] | None:
    return _once(
        worker,
        lambda tx: attempts.begin(
            tx,
            job_id,
            fence,
            worker=worker.name,
            attempt_limit_s=worker.profile.attempt_limit_s,
        ),
    )


def _render(worker: Worker, job: Row[Any], keeper: LeaseKeeper) -> str:
    reporter = _Reporter(worker.client, job, keeper)
    watch = _Stopwatch()
    picture = worker.objects.get(job.input_key)
    watch.lap("fetch")
    video = worker.engine.render(
        RenderSpec(
            prompt=job.prompt,
            seed=job.seed,
            frames=job.frames,
            fps=job.fps,
            size=job.size,
            steps=job.steps,
            motion=job.motion,
            loop=job.loop,
        ),
        picture,
        reporter,
    )
    keeper.advance()
    watch.lap("render")
    if worker.safety is not None:
        worker.safety.refuse_clip(report_frames(decode_mp4(video), reporter))
        watch.lap("check")
    video = provenance.signed(worker.credentials, video)
    watch.lap("sign")
    # The key holds the fence, so no two attempts can write over each other.
    key = f"outputs/{job.id}/{job.fence}.mp4"
    _upload(worker.objects, key, video, keeper)
    watch.lap("upload")
    return _finish(worker, job, keeper, _Clip(key, len(video), watch.laps))


@dataclass(frozen=True)
class _Clip:
    """A stored clip, and what its stages took, in seconds."""

    key: str
    size_bytes: int
    timings: dict[str, float]


class _Stopwatch:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = monotonic()

    def lap(self, name: str) -> None:
        """What went by since the last one is `name`'s."""
        now = monotonic()
        self.laps[name], self._since = round(now - self._since, 4), now


def _upload(objects: Objects, key: str, video: bytes, keeper: LeaseKeeper) -> None:
    """Put the clip; a storage that hiccups costs a wait, not another render."""
    for failures in range(UPLOAD_TRIES):
        try:
            objects.put(key, video, "video/mp4")
            return
        except StorageUnavailable:
            if failures + 1 == UPLOAD_TRIES:
                raise
            sleep(full_jitter(failures, random.random(), base_s=0.5, cap_s=5.0))
            keeper.advance()


def _finish(worker: Worker, job: Row[Any], keeper: LeaseKeeper, clip: _Clip) -> str:
    """Commit the clip. When that is refused, the row tells why; see the protocol's Finish step."""

    def commit() -> bool:
        return _once(
            worker,
            lambda tx: attempts.finish(
                tx, job.id, job.fence, clip.key, clip.size_bytes, clip.timings
            ),
        )

    deadline = monotonic() + keeper.remaining_s
    if _patiently(commit, until=deadline, waiting=keeper.waiting):
        worker.presence.succeeded()
        return "succeeded"
    row = _patiently(
        lambda: _once(worker, lambda tx: jobs.read(tx, job.id)),
        until=deadline,
        waiting=keeper.waiting,
    )
    if row is not None and row.output_key == clip.key:
        return "succeeded"  # an earlier commit held; only its answer was lost
    worker.objects.delete(clip.key)
    if row is not None and row.fence == job.fence and row.cancel_requested:
        raise Canceled("The job was canceled while it rendered.")
    raise Superseded("Another attempt owns the job.")


def _stop(worker: Worker, job: Row[Any], keeper: LeaseKeeper) -> str:
    stopped = _patiently(
        lambda: _once(worker, lambda tx: attempts.stop(tx, job.id, job.fence)),
        until=monotonic() + keeper.remaining_s,
        waiting=keeper.waiting,
    )
    return "canceled" if stopped else "superseded"


def _fail(worker: Worker, job: Row[Any], keeper: LeaseKeeper, error: StillmotionError) -> str:
    """Report the failure; the dispatcher decides when and where the job goes next."""
    log.warning("attempt failed", code=error.code, error=str(error))
    worker.presence.failed()
    topology = worker.settings.topology

    def report(tx: Connection) -> JobState | None:
        return attempts.fail(
            tx,
            job.id,
            job.fence,
            error,
            delay_s=retry_delay(job.begun, random.random()),
            next_region=topology.after_failure(
                worker.pool.region, job.home_region, Policy(job.policy), job.allowed_regions
            ),
        )

    def in_transaction() -> JobState | None:
        with worker.store.begin() as tx:
            return report(tx)

    state = _patiently(
        in_transaction, until=monotonic() + keeper.remaining_s, waiting=keeper.waiting
    )
    wake(worker.client)
    return "superseded" if state is None else "failed"


class _Reporter:
    """Publishes steps and hears the request to stop. Redis is optional here."""

    def __init__(self, client: redis.Redis, job: Row[Any], keeper: LeaseKeeper):
        self._client, self._job, self._keeper = client, job, keeper
        self._silent_until = 0.0

    def __call__(self, step: int | None) -> None:
        if step is not None and monotonic() >= self._silent_until:
            try:
                job = self._job
                if progress.report(self._client, job.id, job.fence, step, job.steps):
                    self._keeper.cancel()
            except redis.RedisError:
                self._silent_until = monotonic() + PROGRESS_PAUSE_S
        self._keeper.advance(step)


def _once(worker: Worker, work: Callable[[Connection], T]) -> T:
    with worker.store.autocommit() as conn:
        return work(conn)


def _patiently(
    work: Callable[[], T], *, until: float, waiting: Callable[[], None] = lambda: None
) -> T:
    """Try until the database answers, or raise its DatabaseUnavailable after `until`.

    `waiting` is called before each wait.
    """
    failures = 0
    while True:
        try:
            return work()
        except DatabaseUnavailable as error:
            wait_s = full_jitter(failures, random.random(), base_s=0.1, cap_s=2.0)
            if monotonic() + wait_s > until:
                raise
            log.warning("database does not answer", error=str(error))
            waiting()
            sleep(wait_s)
            failures += 1
