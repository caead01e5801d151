"""One attempt, from Begin to Finish, through the worker's stages. Knows nothing of Celery."""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from time import monotonic
from uuid import UUID

import redis
import structlog

from app.broker import progress
from app.broker.connections import WEBHOOK_DUE, wake
from app.broker.progress import Step
from app.domain.errors import Canceled, DatabaseUnavailable, HandedBack, Superseded, classify
from app.metrics import attempts_ended, eta_error
from app.store.clock import ClockSince
from app.store.job import attempts, slots
from app.store.job.records import BegunJob
from stillmotion.errors import StillmotionError
from workers.engines.base import OnStep, Rendered, RenderSpec
from workers.gpu import ending, observation
from workers.gpu.database import autocommit, retry
from workers.gpu.ending import Clip
from workers.gpu.lease_keeper import LeaseKeeper
from workers.gpu.stages import Place, Stage
from workers.gpu.worker import Worker
from workers.media import provenance
from workers.media.decode import decode_mp4, report_frames

log = structlog.get_logger(__name__)

BEGIN_PATIENCE_S = 20.0  # for an unavailable database, before the message goes back
GPU_PATIENCE_S = 30.0  # of a prepared attempt for the render before it; then another worker may try
LIMIT_MARGIN_S = (
    5.0  # an attempt that still waits then is given up before its limit ends the process
)
PROGRESS_PAUSE_S = 5.0  # after a Redis error


@observation.attempt
def run(worker: Worker, place: Place, job_id: UUID, fence: int) -> str:
    """Run one attempt and return its outcome, for the log.

    Messages are delivered at least once; the fence makes that safe. Raises DatabaseUnavailable if
    the attempt could not begin, or could not report its end before its limit. In the second case
    the reaper ends it.
    """
    worker.stages.wait_to_prepare(place)
    lease = secrets.token_hex(8)
    job = retry(lambda: _begin(worker, job_id, fence, lease), until=monotonic() + BEGIN_PATIENCE_S)
    if job is None:
        log.info("stale_message_dropped")
        return "stale"
    clock = ClockSince(job.started_at)
    observation.begun(job, worker)
    worker.presence.begun(job.token, job.id)
    waited_s = (job.started_at - job.created_at).total_seconds()
    # A job whose last attempt was lost may have killed its worker. It must not take others along.
    worker.stages.begun(place, steps=job.steps, waited_s=waited_s, alone=job.begun > 1)
    keeper = LeaseKeeper(
        lambda step: autocommit(
            worker, lambda tx: attempts.renew(tx, job_id, fence, step=step, lease_token=lease)
        ),
        stall_limit_s=worker.profile.stall_limit_s,
        attempt_limit_s=worker.profile.attempt_limit_s,
        on_stall=lambda reason: _end_process(worker, place, reason),
        deadline_s=job.deadline_in_s,
    )
    with keeper, worker.running.add(place, lambda: ending.hand_back(worker, job)):
        try:
            outcome = _animate(Attempt(worker, place, job, keeper, clock))
        except Superseded:
            outcome = "superseded"
        except Canceled:
            outcome = ending.stop(worker, job, keeper)
        except Exception as error:
            if not isinstance(error, StillmotionError):
                log.exception("attempt_crashed")
            outcome = ending.fail(worker, job, keeper, classify(error))
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


def _begin(worker: Worker, job_id: UUID, fence: int, lease: str) -> BegunJob | None:
    return autocommit(
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


def _end_process(worker: Worker, place: Place, reason: str) -> None:
    """The attempt at `place` hangs, and its thread cannot be stopped."""
    worker.running.hand_back_others(place)
    worker.on_stall(reason)


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


@dataclass(frozen=True)
class Attempt:
    """An attempt that has begun."""

    worker: Worker
    place: Place
    job: BegunJob
    keeper: LeaseKeeper
    clock: ClockSince


def _animate(attempt: Attempt) -> str:
    """Make the clip and deliver it. Returns the outcome, or raises what ended the attempt."""
    worker, job, place = attempt.worker, attempt.job, attempt.place
    watch = _Stopwatch()
    video = _make_video(attempt, watch)
    worker.stages.encoded(place)
    attempt.keeper.advance()
    if worker.safety is not None:
        worker.safety.refuse_clip(report_frames(decode_mp4(video), attempt.keeper.advance))
        watch.lap("check")
    video = provenance.sign_or_pass(worker.credentials, video, attempt.clock.now())
    watch.lap("sign")
    # The lease token makes the key this attempt's alone. Two attempts may have one fence, if the
    # database lost a placement in a crash, and must neither overwrite nor delete each other's clip.
    key = f"outputs/{job.id}/{job.fence}-{job.lease_token}.mp4"
    ending.upload(
        worker.objects, key, video, attempt.keeper, since=place.left_gpu_at or monotonic()
    )
    watch.lap("upload")
    outcome = ending.finish(worker, job, attempt.keeper, Clip(key, len(video), watch.laps))
    watch.lap("finish")
    return outcome


def _make_video(attempt: Attempt, watch: "_Stopwatch") -> bytes:
    """The MP4. Everything larger is released when this returns."""
    worker, job, place = attempt.worker, attempt.job, attempt.place
    engine = worker.engine
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
        negative_prompt=job.negative_prompt,
    )
    prepared = engine.prepare(spec, picture)
    attempt.keeper.advance()
    watch.lap("prepare")
    report = _Reporter(attempt)

    def work(on_step: OnStep) -> Rendered:
        attempt.keeper.advance()  # it may have been canceled while it waited

        def done(step: int | None) -> None:
            on_step(step)
            report(step)

        rendered: Rendered = engine.render(prepared, done)
        return rendered

    rendered = worker.stages.render(place, work, _Patience(attempt))
    watch.lap("wait", place.got_gpu_at)
    watch.lap("render", place.left_gpu_at)
    watch.lap("queue")
    video = engine.encode(rendered, report)
    watch.lap("encode")
    return video


class _Stopwatch:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = monotonic()

    def lap(self, name: str, until: float | None = None) -> None:
        """Record the time since the last lap, to `until` or now, as that of `name`."""
        now = monotonic() if until is None else until
        self.laps[name], self._since = round(now - self._since, 4), now
        observation.stage(name, self.laps[name], now)


class _Patience:
    """How long an attempt waits for its turn: called while it does, raises to end it."""

    def __init__(self, attempt: Attempt):
        self._attempt = attempt
        self._since = monotonic()

    def __call__(self) -> None:
        job, keeper = self._attempt.job, self._attempt.keeper
        with suppress(redis.RedisError):
            if progress.stop_asked(self._attempt.worker.client, job.id, job.fence):
                keeper.cancel()
        keeper.advance()
        waits_for_gpu = self._attempt.place.stage is Stage.PREPARES
        if waits_for_gpu and monotonic() - self._since > GPU_PATIENCE_S:
            raise HandedBack("The render before this one took much longer than foreseen.")
        if keeper.remaining_s < LIMIT_MARGIN_S:
            raise HandedBack("The clips before this one took too long to deliver.")


class _Reporter:
    """Publishes each step and learns of a request to stop. Works without Redis, too.

    A job's only step is not worth a round trip: the job's end follows.
    """

    def __init__(self, attempt: Attempt):
        self._client, self._job = attempt.worker.client, attempt.job
        self._keeper, self._clock = attempt.keeper, attempt.clock
        self._paused_until = inf if attempt.job.steps == 1 else 0.0

    def __call__(self, step: int | None) -> None:
        observation.step(step)
        if step is not None and monotonic() >= self._paused_until:
            try:
                job = self._job
                done = Step(job.fence, step, self._clock.now().timestamp())
                if progress.report(self._client, job.id, done, job.steps):
                    self._keeper.cancel()
            except redis.RedisError:
                self._paused_until = monotonic() + PROGRESS_PAUSE_S
        self._keeper.advance(step)
