"""The operations page's summary: jobs of every key, and how long they take."""

from decimal import Decimal
from threading import Lock
from time import monotonic

import redis
from flask import Blueprint, current_app
from flask.blueprints import BlueprintSetupState

from app.api.models.ops import (
    EndedCounts,
    FailedJob,
    LiveCounts,
    Percentiles,
    Reason,
    RegionCounts,
    Summary,
    Times,
    WaitingJob,
)
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.process.services import Services, get_services
from app.api.request import auth, job_view
from app.broker.claims import Claims
from app.domain.routing.topology import Pool
from app.public.response_model import utc
from app.store.reports import overview
from stillmotion.states import JobState, Policy

LOOK_EVERY_S = 1.0  # regardless of how many pages are open

bp = Blueprint("ops", __name__, url_prefix="/v1/ops")
bp.before_request(auth.require_admin)


class _Summary:
    """The last look at the deployment, shared by all requests within LOOK_EVERY_S."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: Summary | None = None
        self._again_at = 0.0

    def read(self, services: Services) -> Summary:
        # While one request looks, the others use the last look: a slow database holds one thread.
        if not self._lock.acquire(blocking=self._seen is None) and self._seen is not None:
            return self._seen
        try:
            if self._seen is None or monotonic() >= self._again_at:
                self._seen = _look(services)
                self._again_at = monotonic() + LOOK_EVERY_S
            return self._seen
        finally:
            self._lock.release()


@bp.record
def _install(state: BlueprintSetupState) -> None:
    state.app.extensions["ops_summary"] = _Summary()


@bp.get("/summary")
@describe({200: ResponseSpec("The summary.", Summary)}, scope="admin")
def show_summary() -> Result:
    """Show regions, live jobs, waiting jobs, times and recent failures of all keys."""
    summary: _Summary = current_app.extensions["ops_summary"]
    return summary.read(get_services())


def _look(services: Services) -> Summary:
    with services.store.autocommit() as conn:
        live, ended = overview.live(conn), overview.ended(conn)
        waiting, failures = overview.waiting(conn), overview.failures(conn)

    def count(state: JobState) -> int:
        return sum(number for (of, _), number in live.items() if of == state)

    return Summary(
        object="ops_summary",
        at=services.clock.now(),
        flower_url=services.settings.flower_url or None,
        jobs=LiveCounts(
            queued=count(JobState.QUEUED),
            starting=count(JobState.STARTING),
            processing=count(JobState.PROCESSING),
        ),
        counted_up_to=overview.COUNTED,
        ended=EndedCounts(
            window_seconds=overview.WINDOW_S,
            sampled=ended.sampled,
            succeeded=ended.succeeded,
            failed=ended.failed,
            canceled=ended.canceled,
            expired=ended.expired,
        ),
        times=Times(queue=_percentiles(ended.queue), render=_percentiles(ended.render)),
        regions=[_region(services, name, live) for name in services.topology.names],
        waiting=[_waiting(job) for job in waiting],
        failures=[_failure(job) for job in failures],
    )


def _region(services: Services, name: str, live: dict[tuple[str, str], int]) -> RegionCounts:
    """`idle` is None if the region's Redis does not respond: unknown, not zero."""

    def idle(client: redis.Redis) -> int:
        claims = Claims(client)
        pools = [Pool(name, profile) for profile in services.settings.served_profiles]
        return sum(claims.look(pool).free for pool in pools)

    return RegionCounts(
        id=name,
        idle=services.hint(name, idle),
        busy=live.get((JobState.PROCESSING, name), 0),
        waiting=live.get((JobState.QUEUED, name), 0),
    )


def _percentiles(pair: list[float | None] | None) -> Percentiles:
    p50, p99 = pair or (None, None)
    return Percentiles(
        p50_seconds=None if p50 is None else _seconds(p50),
        p99_seconds=None if p99 is None else _seconds(p99),
    )


def _waiting(job: overview.WaitingJob) -> WaitingJob:
    return WaitingJob(
        id=job.id,
        key=job.key_name,
        state=JobState(job.state),
        model=job.profile,
        home=job.home_region,
        region=job.region,
        policy=Policy(job.policy),
        priority=job.priority,
        waited_seconds=_seconds(job.waited_s),
        expires_in_seconds=_seconds(job.expires_in_s),
        waiting_for=job_view.waiting_for(job) if job.state == JobState.QUEUED else None,
        backoff_seconds=None if job.backoff_s is None else _seconds(job.backoff_s),
    )


def _failure(job: overview.FailedJob) -> FailedJob:
    return FailedJob(
        id=job.id,
        state=JobState(job.state),
        model=job.profile,
        region=job.region,
        attempts_begun=job.begun,
        error=Reason(code=job.error_code, message=job.error_detail or ""),
        finished_at=utc(job.finished_at),
    )


def _seconds(value: float | Decimal) -> float:
    return round(float(value), 3)
