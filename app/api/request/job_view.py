"""A job as its owner sees it right now: its record, plus its queue position and its progress."""

from collections.abc import Sequence
from datetime import datetime
from math import ceil
from typing import Protocol

from app.api.process.forecast import Forecast
from app.api.process.services import Services
from app.api.request import auth
from app.public.job import Job, Queue, WaitingFor
from app.public.present import present_job
from app.store.job import jobs, slot_queue
from app.store.job.records import JobRecord, WholeJob
from app.store.models import NEVER
from stillmotion.states import JobState, Policy

POLL_LEAST_S, POLL_MOST_S = 1, 15
POLLS_PER_JOB = 8  # at the pace that the hint suggests


def view_job(services: Services, job: WholeJob) -> Job:
    """Everything about one job. Raises DatabaseUnavailable."""
    state = JobState(job.state)
    queue = eta_s = step = None
    if state is JobState.QUEUED:
        queue, eta_s = queue_place(services, job)
    elif not state.terminal:
        step = services.step(job) if state is JobState.PROCESSING else 0
        eta_s = done_in_s(forecast_running(services, job, step or job.step))
    return present_job(
        job,
        services.links,
        step=step,
        queue=queue,
        eta_s=eta_s,
        attempts=job.attempts,
        operator=auth.is_operator(),
    )


def queue_place(services: Services, job: JobRecord) -> tuple[Queue, float | None]:
    """A queued job's place, and the seconds until it is done if they are known."""
    with services.store.autocommit() as conn:
        ahead = jobs.ahead(conn, job)
        limited = slot_queue.queue_of(conn, job, services.settings.key_concurrency or None)
    waits, forecast = waiting_for(job), None
    if waits is not WaitingFor.BACKOFF:
        forecast = services.forecaster.queued(
            job.profile,
            job.next_region,
            ahead,
            cost=job.cost,
            movable=job.policy != Policy.STRICT,
            limited=limited,
            needs=job.needs,
        )
    wait_s = None if forecast is None else round(forecast.begins_s, 3)
    position = ahead.jobs + (0 if limited is None else limited.ahead.jobs)
    workers = services.forecaster.workers(job.profile, open_regions(services, job), job.needs)
    queue = Queue(position=position, wait_seconds=wait_s, waiting_for=waits, workers=workers)
    return queue, done_in_s(forecast)


def open_regions(services: Services, job: JobRecord) -> Sequence[str]:
    """The regions in which a job may run."""
    if job.policy == Policy.STRICT:
        return [job.home_region]
    return services.topology.names if job.allowed_regions is None else job.allowed_regions


class Waiting(Protocol):
    """The columns that say what a queued job waits for."""

    @property
    def slot(self) -> bool | None: ...
    @property
    def not_before(self) -> datetime | None: ...


def waiting_for(job: Waiting) -> WaitingFor:
    if job.slot is False:
        return WaitingFor.KEY_CONCURRENCY
    return WaitingFor.WORKER if job.not_before in (None, NEVER) else WaitingFor.BACKOFF


def forecast_running(services: Services, job: JobRecord, step: int) -> Forecast | None:
    """The forecast for a job that is placed or processing."""
    began = job.started_at if job.state == JobState.PROCESSING else None
    elapsed_s = 0.0 if began is None else (services.clock.now() - began).total_seconds()
    return services.forecaster.running(job, max(0.0, elapsed_s), step)


def done_in_s(forecast: Forecast | None) -> float | None:
    return None if forecast is None else forecast.done_s


def poll_hint(job: Job, predicted_s: float | None = None) -> dict[str, str]:
    """The Retry-After header of a job that has not ended: a fraction of its remaining time."""
    if job.terminal:
        return {}
    return {"Retry-After": str(poll_hint_s(job.eta_seconds or predicted_s))}


def poll_hint_s(eta_s: float | None) -> int:
    """Seconds to wait before asking again about a job that is done in `eta_s`."""
    return min(POLL_MOST_S, max(POLL_LEAST_S, ceil((eta_s or 0.0) / POLLS_PER_JOB)))
