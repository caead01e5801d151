"""A job as one client sees it now: its row, and what only the moment knows."""

from datetime import UTC, datetime
from math import ceil
from typing import Any

from sqlalchemy import Row

from app.api.models.schemas import Queue, WaitingFor, dump_job
from app.api.process.forecast import Forecast
from app.api.process.services import Services
from app.store.job import jobs
from stillmotion.states import JobState, Policy

POLL_LEAST_S, POLL_MOST_S = 1, 15
POLLS_PER_JOB = 8  # at the pace that the hint gives


def show(parts: Services, row: Row[Any]) -> dict[str, Any]:
    """All of a job. `row` is that of `jobs.get_whole`. Raises DatabaseUnavailable."""
    state = JobState(row.state)
    queue = eta_s = step = None
    if state is JobState.QUEUED:
        queue, eta_s = place_in_queue(parts, row)
    elif not state.terminal:
        step = parts.step(row) if state is JobState.PROCESSING else 0
        eta_s = done_in_s(running(parts, row, step or row.step))
    return dump_job(row, parts.links, step=step, queue=queue, eta_s=eta_s, attempts=row.attempts)


def place_in_queue(parts: Services, row: Row[Any]) -> tuple[Queue, float | None]:
    """Where a queued job stands, and the seconds until it is done, if they can be told."""
    with parts.store.autocommit() as conn:
        ahead = jobs.position(conn, row)
    waits, forecast = waiting_for(row), None
    if waits is WaitingFor.WORKER:
        movable = row.policy != Policy.STRICT
        forecast = parts.forecaster.queued(row.profile, row.next_region, ahead, movable=movable)
    wait_s = None if forecast is None else round(forecast.begins_s, 3)
    queue = Queue(position=ahead, wait_seconds=wait_s, waiting_for=waits)
    return queue, done_in_s(forecast)


def waiting_for(row: Row[Any]) -> WaitingFor:
    """What a queued job waits for, by its `slot` and `not_before`."""
    if row.slot is False:
        return WaitingFor.KEY_CONCURRENCY
    return WaitingFor.WORKER if row.not_before is None else WaitingFor.BACKOFF


def running(parts: Services, row: Row[Any], step: int) -> Forecast | None:
    """The forecast for a job that is placed or processing."""
    began = row.started_at if row.state == JobState.PROCESSING else None
    elapsed_s = 0.0 if began is None else (datetime.now(UTC) - began).total_seconds()
    return parts.forecaster.running(row, max(0.0, elapsed_s), step)


def done_in_s(forecast: Forecast | None) -> float | None:
    return None if forecast is None else forecast.done_s


def poll_hint(shown: dict[str, Any], predicted_s: float | None = None) -> dict[str, str]:
    """The Retry-After of a job that has not ended: a part of what is left of it."""
    if shown["terminal"]:
        return {}
    return {"Retry-After": str(poll_hint_s(shown["eta_seconds"] or predicted_s))}


def poll_hint_s(eta_s: float | None) -> int:
    """Seconds until it is worth asking again about a job that is done in `eta_s`."""
    return min(POLL_MOST_S, max(POLL_LEAST_S, ceil((eta_s or 0.0) / POLLS_PER_JOB)))
