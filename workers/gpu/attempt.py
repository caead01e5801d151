"""One attempt, from Begin to Finish. Knows nothing of Celery."""

import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from time import monotonic, sleep
from typing import TypeVar
from uuid import UUID

import redis
import structlog
from sqlalchemy import Connection

from app.broker import progress
from app.broker.connections import WEBHOOK_DUE, wake
from app.broker.progress import Step
from app.domain.errors import (
    Canceled,
    DatabaseUnavailable,
    StorageUnavailable,
    Superseded,
    classify,
)
from app.domain.routing.pacing import retry_delay
from app.objects import Objects
from app.store.clock import ClockSince
from app.store.job import attempts, jobs, slots
from app.store.job.records import BegunJob
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

BEGIN_PATIENCE_S = 20.0  # for an unavailable database, before the message goes back
UPLOAD_PATIENCE_S = 60.0  # for storage that does not take a clip, before the render is given up
PROGRESS_PAUSE_S = 5.0  # after a Redis error
T = TypeVar("T")


def run(worker: Worker, job_id: UUID, fence: int) -> str:
    """Run one attempt and return its outcome, for the log.

    Messages are delivered at least once; the fence makes that safe. Raises DatabaseUnavailable if
    the attempt could not begin, or could not report its end before its limit. In the second case
    the reaper ends it.
    """
    lease = secrets.token_hex(8)
    job = _retry(lambda: _begin(worker, job_id, fence, lease), until=monotonic() + BEGIN_PATIENCE_S)
    if job is None:
        log.info("stale_message_dropped")
        return "stale"
    clock = ClockSince(job.started_at)
    worker.presence.begun(job.token)
    _announce(worker, job)
    keeper = LeaseKeeper(
        lambda step: _autocommit(
            worker, lambda tx: attempts.renew(tx, job_id, fence, step=step, lease_token=lease)
        ),
        stall_limit_s=worker.profile.stall_limit_s,
        attempt_limit_s=worker.profile.attempt_limit_s,
        on_stall=worker.on_stall,
        deadline_s=job.deadline_in_s,
    )
    with keeper:
        try:
            outcome = _render(worker, job, keeper, clock)
        except Superseded:
            outcome = "superseded"
        except Canceled:
            outcome = _stop(worker, job, keeper)
        except Exception as error:
            if not isinstance(error, StillmotionError):
                log.exception("attempt_crashed")
            outcome = _fail(worker, job, keeper, classify(error))
    attempts_ended.labels(outcome).inc()
    _announce(worker, job)
    if outcome == "succeeded" and job.predicted_s is not None:
        took_s = (clock.now() - job.created_at).total_seconds()
        eta_error.observe(abs(job.predicted_s - took_s) / took_s)
    if job.slot is not None:
        _pass_on_slot(worker, job)
    if job.webhook_url is not None or job.has_webhooks:
        wake(worker.client, WEBHOOK_DUE)
    log.info("attempt_ended", outcome=outcome)
    return outcome


def _announce(worker: Worker, job: BegunJob) -> None:
    """Tell clients that wait for the job to look now instead of at their next poll."""
    with suppress(redis.RedisError):
        progress.changed(worker.client, job.id)


def _pass_on_slot(worker: Worker, job: BegunJob) -> None:
    """Give the slot of a key with a concurrency limit to its next job, at once."""
    try:
        with worker.store.begin() as tx:
            granted = slots.grant(tx, job.owner_id, worker.settings.key_concurrency or None)
    except DatabaseUnavailable as error:
        log.warning("slot_left_to_reaper", error=error.detail)
        return
    if granted:
        wake(worker.client)


def _begin(worker: Worker, job_id: UUID, fence: int, lease: str) -> BegunJob | None:
    return _autocommit(
        worker,
        lambda tx: attempts.begin(
            tx,
            job_id,
            fence,
            worker=worker.name,
            attempt_limit_s=worker.profile.attempt_limit_s,
            lease_token=lease,
            region=worker.pool.region,
            model_version=worker.engine.version,
        ),
    )


def _render(worker: Worker, job: BegunJob, keeper: LeaseKeeper, clock: ClockSince) -> str:
    reporter = _Reporter(worker.client, job, keeper, clock)
    watch = _Stopwatch()
    picture = worker.objects.get(job.input_key)
    watch.lap("fetch")
    spec = RenderSpec(
        prompt=job.prompt,
        seed=job.seed,
        frames=job.frames,
        fps=job.fps,
        size=job.size,
        steps=job.steps,
        motion=job.motion,
        loop=job.loop,
    )
    video = worker.engine.render(spec, picture, reporter)
    keeper.advance()
    watch.lap("render")
    if worker.safety is not None:
        worker.safety.refuse_clip(report_frames(decode_mp4(video), reporter))
        watch.lap("check")
    video = provenance.sign_or_pass(worker.credentials, video, clock.now())
    watch.lap("sign")
    # The lease token makes the key this attempt's alone. Two attempts may have one fence, if the
    # database lost a placement in a crash, and must neither overwrite nor delete each other's clip.
    key = f"outputs/{job.id}/{job.fence}-{job.lease_token}.mp4"
    _upload(worker.objects, key, video, keeper)
    watch.lap("upload")
    return _finish(worker, job, keeper, _Clip(key, len(video), watch.laps))


@dataclass(frozen=True)
class _Clip:
    """A stored clip, and the seconds that each stage took."""

    key: str
    size_bytes: int
    timings: dict[str, float]


class _Stopwatch:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = monotonic()

    def lap(self, name: str) -> None:
        """Record the time since the last lap as that of `name`."""
        now = monotonic()
        self.laps[name], self._since = round(now - self._since, 4), now


def _upload(objects: Objects, key: str, video: bytes, keeper: LeaseKeeper) -> None:
    """Store the clip. A short storage failure costs a wait, not another render."""
    until = monotonic() + min(UPLOAD_PATIENCE_S, keeper.remaining_s)
    for failures in count():
        try:
            objects.put(key, video, "video/mp4")
            return
        except StorageUnavailable:
            wait_s = full_jitter(failures, random.random(), base_s=0.5, cap_s=5.0)
            if monotonic() + wait_s > until:
                raise
            sleep(wait_s)
            keeper.advance()


def _finish(worker: Worker, job: BegunJob, keeper: LeaseKeeper, clip: _Clip) -> str:
    """Commit the clip. If that is refused, the row says why; see the protocol's Finish step."""

    def commit() -> bool:
        return _autocommit(
            worker,
            lambda tx: attempts.finish(
                tx,
                job.id,
                job.fence,
                clip.key,
                clip.size_bytes,
                clip.timings,
                lease_token=job.lease_token,
            ),
        )

    deadline = monotonic() + keeper.remaining_s
    if _retry(commit, until=deadline, on_wait=keeper.waiting):
        worker.presence.succeeded()
        return "succeeded"
    row = _retry(
        lambda: _autocommit(worker, lambda tx: jobs.read(tx, job.id)),
        until=deadline,
        on_wait=keeper.waiting,
    )
    if row is not None and row.output_key == clip.key:
        return "succeeded"  # an earlier commit succeeded, and its answer was lost
    worker.objects.delete(clip.key)
    if row is not None and row.lease_token == job.lease_token and row.state == JobState.PROCESSING:
        raise Canceled("The job was canceled, or its deadline passed, while it rendered.")
    raise Superseded("Another attempt owns the job.")


def _stop(worker: Worker, job: BegunJob, keeper: LeaseKeeper) -> str:
    stopped = _retry(
        lambda: _autocommit(
            worker, lambda tx: attempts.stop(tx, job.id, job.fence, lease_token=job.lease_token)
        ),
        until=monotonic() + keeper.remaining_s,
        on_wait=keeper.waiting,
    )
    return "canceled" if stopped else "superseded"


def _fail(worker: Worker, job: BegunJob, keeper: LeaseKeeper, error: StillmotionError) -> str:
    """Report the failure. The dispatcher decides when and where the job runs next."""
    log.warning("attempt_failed", code=error.code, error=str(error))
    # A storage outage is neither the job's fault nor this machine's.
    excused = isinstance(error, StorageUnavailable)
    if excused:
        worker.health.storage_failed()
    else:
        worker.presence.failed()
    topology = worker.settings.topology

    def report() -> JobState | None:
        with worker.store.begin() as tx:
            return attempts.fail(
                tx,
                job.id,
                job.fence,
                error,
                delay_s=retry_delay(job.begun, random.random()),
                next_region=topology.after_failure(
                    worker.pool.region, job.home_region, Policy(job.policy), job.allowed_regions
                ),
                lease_token=job.lease_token,
                excused=excused,
            )

    state = _retry(report, until=monotonic() + keeper.remaining_s, on_wait=keeper.waiting)
    wake(worker.client)
    return "superseded" if state is None else "failed"


class _Reporter:
    """Publishes each step and learns of a request to stop. Works without Redis, too."""

    def __init__(self, client: redis.Redis, job: BegunJob, keeper: LeaseKeeper, clock: ClockSince):
        self._client, self._job, self._keeper = client, job, keeper
        self._clock = clock
        self._paused_until = 0.0

    def __call__(self, step: int | None) -> None:
        if step is not None and monotonic() >= self._paused_until:
            try:
                job = self._job
                done = Step(job.fence, step, self._clock.now().timestamp())
                if progress.report(self._client, job.id, done, job.steps):
                    self._keeper.cancel()
            except redis.RedisError:
                self._paused_until = monotonic() + PROGRESS_PAUSE_S
        self._keeper.advance(step)


def _autocommit(worker: Worker, work: Callable[[Connection], T]) -> T:
    with worker.store.autocommit() as conn:
        return work(conn)


def _retry(work: Callable[[], T], *, until: float, on_wait: Callable[[], None] | None = None) -> T:
    """Repeat `work` while the database is unavailable; after `until`, raise its error.

    Calls `on_wait` before each wait.
    """
    failures = 0
    while True:
        try:
            return work()
        except DatabaseUnavailable as error:
            wait_s = full_jitter(failures, random.random(), base_s=0.1, cap_s=2.0)
            if monotonic() + wait_s > until:
                raise
            log.warning("database_unavailable", error=str(error))
            if on_wait is not None:
                on_wait()
            sleep(wait_s)
            failures += 1
