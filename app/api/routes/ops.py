"""What the operations page shows and no other endpoint says: jobs of every key, and their times."""

from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import Any

import redis
from flask import Blueprint, current_app
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from sqlalchemy import Row

from app.api.models.answers import Summary
from app.api.openapi.operation import Answer, describe
from app.api.process.services import Services, services
from app.api.request import auth, job_view
from app.broker.claims import Claims
from app.domain.routing.topology import Pool
from app.store.reports import overview
from stillmotion.states import JobState

LOOK_EVERY_S = 1.0  # however many pages are open
ENDS = ("succeeded", "failed", "canceled", "expired")

bp = Blueprint("ops", __name__, url_prefix="/v1/ops")
bp.before_request(auth.require_admin)


class _Summary:
    """The last look at the deployment, shared by all who ask within LOOK_EVERY_S."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: dict[str, Any] = {}
        self._again_at = 0.0

    def read(self, parts: Services) -> dict[str, Any]:
        # While one request looks, others take the last look: a slow database holds one thread.
        if not self._lock.acquire(blocking=not self._seen):
            return self._seen
        try:
            if monotonic() >= self._again_at:
                self._seen = _look(parts)
                self._again_at = monotonic() + LOOK_EVERY_S
            return self._seen
        finally:
            self._lock.release()


@bp.record
def _install(state: BlueprintSetupState) -> None:
    state.app.extensions["ops_summary"] = _Summary()


@bp.get("/summary")
@describe({200: Answer("The summary.", Summary)}, scope="admin")
def show_summary() -> ResponseReturnValue:
    """Show regions, live jobs, waiting jobs, times and recent failures of all keys."""
    return current_app.extensions["ops_summary"].read(services())


def _look(parts: Services) -> dict[str, Any]:
    with parts.store.autocommit() as conn:
        live, ended = overview.live(conn), overview.ended(conn)
        waiting, failures = overview.waiting(conn), overview.failures(conn)
    states = [state for state in JobState if not state.terminal]
    return {
        "object": "ops_summary",
        "at": _time(datetime.now(UTC)),
        "flower_url": parts.settings.flower_url or None,
        "jobs": {
            state: sum(count for (of, _), count in live.items() if of == state) for state in states
        },
        "counted_up_to": overview.COUNTED,
        "ended": {
            "window_seconds": overview.WINDOW_S,
            **{name: getattr(ended, name) for name in ("sampled", *ENDS)},
        },
        "times": {"queue": _percentiles(ended.queue), "render": _percentiles(ended.render)},
        "regions": [_region(parts, name, live) for name in parts.topology.names],
        "waiting": [_waiting(row) for row in waiting],
        "failures": [_failure(row) for row in failures],
    }


def _region(parts: Services, name: str, live: dict[tuple[str, str], int]) -> dict[str, Any]:
    """`idle` is None where the region's Redis does not answer: unknown, not zero."""

    def idle(client: redis.Redis) -> int:
        claims = Claims(client)
        pools = [Pool(name, profile) for profile in parts.settings.served_profiles]
        return sum(claims.counts(pool)[0] for pool in pools)

    return {
        "id": name,
        "idle": parts.hint(name, idle),
        "busy": live.get((JobState.PROCESSING, name), 0),
        "waiting": live.get((JobState.QUEUED, name), 0),
    }


def _percentiles(pair: list[float] | None) -> dict[str, float | None]:
    p50, p99 = pair or (None, None)
    return {"p50_seconds": _seconds(p50), "p99_seconds": _seconds(p99)}


def _waiting(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "key": row.key_name,
        "state": row.state,
        "model": row.profile,
        "home": row.home_region,
        "region": row.region,
        "policy": row.policy,
        "priority": row.priority,
        "waited_seconds": _seconds(row.waited_s),
        "expires_in_seconds": _seconds(row.expires_in_s),
        "waiting_for": job_view.waiting_for(row) if row.state == JobState.QUEUED else None,
        "backoff_seconds": _seconds(row.backoff_s),
    }


def _failure(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "state": row.state,
        "model": row.profile,
        "region": row.region,
        "attempts_begun": row.begun,
        "error": {"code": row.error_code, "message": row.error_detail or ""},
        "finished_at": _time(row.finished_at),
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
