"""Probes and metrics. No key: they tell nothing about any one user."""

from itertools import product
from threading import Lock
from time import monotonic

import redis
from flask import Blueprint, Response
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app import telemetry
from app.api.models.answers import Alive, Ready
from app.api.openapi.operation import Answer, describe
from app.api.process.services import Services, services
from app.domain.errors import DatabaseUnavailable, Transient
from app.store.job import jobs
from stillmotion.states import TERMINAL, JobState

COUNT_EVERY_S = 5.0  # counting walks every live job's index entry

bp = Blueprint("health", __name__)


@bp.get("/healthz")
@describe({200: Answer("Alive.", Alive)}, scope=None)
def healthz() -> ResponseReturnValue:
    """Say that the process is alive; asks nothing of anybody."""
    return {"status": "ok"}


@bp.get("/readyz")
@describe(
    {200: Answer("Ready.", Ready), 503: Answer("Not ready; `parts` says why.", Ready)}, scope=None
)
def readyz() -> ResponseReturnValue:
    """Ask every part. Without Redis jobs are still accepted, and placed by polling: degraded."""
    parts = services()
    found: dict[str, str] = {}
    for name, check in (("database", parts.store.check), ("storage", parts.objects.check)):
        try:
            check()
            found[name] = "ok"
        except Transient as error:
            found[name] = error.code
    found["redis"] = _redis(parts)
    ready = found["database"] == found["storage"] == "ok"
    status = "unavailable" if not ready else "ok" if found["redis"] == "ok" else "degraded"
    return {"status": status, "parts": found}, 200 if ready else 503


def _redis(parts: Services) -> str:
    try:
        for client in parts.redis.urls().values():
            client.ping()
    except redis.RedisError:
        return "redis_unavailable"
    return "ok"


class _LiveJobs:
    """Fills the gauge of live jobs, at most once in COUNT_EVERY_S however often it is scraped."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._again_at = 0.0

    def refresh(self, parts: Services) -> None:
        with self._lock:
            if monotonic() < self._again_at:
                return
            self._again_at = monotonic() + COUNT_EVERY_S
            telemetry.live_jobs.clear()  # no number is better than one from before
            try:
                with parts.store.autocommit() as conn:
                    counted = jobs.count_by_state(conn)
            except DatabaseUnavailable:
                return
            live = [state.value for state in JobState if state not in TERMINAL]
            # Zeros, too: an alert on a series that comes and goes does not fire.
            every = product(parts.settings.served_profiles, parts.topology.names, live)
            for labels in {*every, *counted}:
                telemetry.live_jobs.labels(*labels).set(counted.get(labels, 0))


_live_jobs = _LiveJobs()


@bp.get("/metrics")
@describe({200: Answer("The metrics.", media_type="text/plain")}, scope=None)
def metrics() -> ResponseReturnValue:
    """Prometheus' text format: this process's counters, and the deployment's live jobs."""
    _live_jobs.refresh(services())
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)
