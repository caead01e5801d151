"""How an attempt ends: its clip stored and committed, stopped, or failed."""

import random
from dataclasses import dataclass
from itertools import count
from time import monotonic, sleep

import structlog

from app import tracing
from app.broker.connections import wake
from app.domain.errors import (
    Canceled,
    DatabaseUnavailable,
    HandedBack,
    StorageUnavailable,
    Superseded,
)
from app.domain.routing.pacing import retry_delay
from app.objects import Objects
from app.store.job import attempts, jobs
from app.store.job.records import BegunJob
from stillmotion.backoff import full_jitter
from stillmotion.errors import StillmotionError
from stillmotion.states import JobState, Policy
from workers.gpu.database import autocommit, retry
from workers.gpu.lease_keeper import LeaseKeeper
from workers.gpu.worker import Worker

log = structlog.get_logger(__name__)

UPLOAD_PATIENCE_S = 60.0  # for storage that does not take a clip, before the render is given up


@dataclass(frozen=True)
class Clip:
    """A stored clip, and the seconds that each stage took."""

    key: str
    size_bytes: int
    timings: dict[str, float]


def upload(objects: Objects, key: str, video: bytes, keeper: LeaseKeeper, *, since: float) -> None:
    """Store the clip. A short storage failure costs a wait, not another render.

    `since`: when it was rendered. It may have waited for the clips before it.
    """
    until = min(since + UPLOAD_PATIENCE_S, monotonic() + keeper.remaining_s)
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


def finish(worker: Worker, job: BegunJob, keeper: LeaseKeeper, clip: Clip) -> str:
    """Commit the clip. If that is refused, the row says why; see the protocol's Finish step."""

    def commit() -> bool:
        return autocommit(
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
    if retry(commit, until=deadline, on_wait=keeper.waiting):
        worker.presence.succeeded()
        return "succeeded"
    row = retry(
        lambda: autocommit(worker, lambda tx: jobs.read(tx, job.id)),
        until=deadline,
        on_wait=keeper.waiting,
    )
    if row is not None and row.output_key == clip.key:
        return "succeeded"  # an earlier commit succeeded, and its answer was lost
    worker.objects.delete(clip.key)
    if row is not None and row.lease_token == job.lease_token and row.state == JobState.PROCESSING:
        raise Canceled("The job was canceled, or its deadline passed, while it rendered.")
    raise Superseded("Another attempt owns the job.")


def stop(worker: Worker, job: BegunJob, keeper: LeaseKeeper) -> str:
    """End an attempt that was told to."""
    stopped = retry(
        lambda: autocommit(
            worker, lambda tx: attempts.stop(tx, job.id, job.fence, lease_token=job.lease_token)
        ),
        until=monotonic() + keeper.remaining_s,
        on_wait=keeper.waiting,
    )
    return "canceled" if stopped else "superseded"


def fail(worker: Worker, job: BegunJob, keeper: LeaseKeeper, error: StillmotionError) -> str:
    """Report the failure. The dispatcher decides when and where the job runs next."""
    log.warning("attempt_failed", code=error.code, error=str(error))
    if isinstance(error, StorageUnavailable):
        worker.health.storage_failed()
    elif not isinstance(error, HandedBack):
        worker.presence.failed()
    state = retry(
        lambda: _report(worker, job, error),
        until=monotonic() + keeper.remaining_s,
        on_wait=keeper.waiting,
    )
    wake(worker.client)
    return "superseded" if state is None else "failed"


def hand_back(worker: Worker, job: BegunJob) -> None:
    """Give a job back whose process is about to end for another's sake. Tries once."""
    try:
        _report(worker, job, HandedBack("The worker ended while another job hung in it."))
    except DatabaseUnavailable as error:
        about = tracing.about(job.id, job.traceparent, fence=job.fence, region=worker.pool.region)
        log.warning("attempt_left_to_reaper", **about, error=str(error))


def _report(worker: Worker, job: BegunJob, error: StillmotionError) -> JobState | None:
    """The job's new state; None if the attempt was superseded. Raises DatabaseUnavailable."""
    # Neither the job nor this machine can help a storage outage, or what HandedBack stands for.
    excused = isinstance(error, StorageUnavailable | HandedBack)
    delay_s = 0.0 if isinstance(error, HandedBack) else retry_delay(job.begun, random.random())
    next_region = worker.settings.topology.after_failure(
        worker.pool.region, job.home_region, Policy(job.policy), job.allowed_regions
    )
    with worker.store.begin() as tx:
        return attempts.fail(
            tx,
            job.id,
            job.fence,
            error,
            delay_s=delay_s,
            next_region=next_region,
            lease_token=job.lease_token,
            excused=excused,
        )
