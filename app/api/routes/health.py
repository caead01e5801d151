"""Probes and metrics. They need no key, because they reveal nothing about any user."""

from itertools import product
from threading import Lock
from time import monotonic

import redis
from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app import telemetry
from app.api.models.ops import Alive, Ready
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.process.services import Services, get_services
from app.domain.errors import DatabaseUnavailable, Transient
from app.store.job import jobs
from stillmotion.states import TERMINAL, JobState

COUNT_EVERY_S = 5.0  # counting reads the index entry of every live job

bp = Blueprint("health", __name__)


@bp.get("/healthz")
@describe({200: ResponseSpec("Alive.", Alive)}, scope=None)
def healthz() -> Result:
    """Report that the process is alive, without checking its dependencies."""
    return Alive(status="ok")


@bp.get("/readyz")
@describe(
    {200: ResponseSpec("Ready.", Ready), 503: ResponseSpec("Not ready; `parts` says why.", Ready)},
    scope=None,
)
def readyz() -> Result:
    """Check every dependency. `degraded` without Redis: jobs are accepted and placed by polling."""
    services = get_services()
    found: dict[str, str] = {}
    for name, check in (("database", services.store.check), ("storage", services.objects.check)):
        try:
            check()
            found[name] = "ok"
        except Transient as error:
            found[name] = error.code
    found["redis"] = _redis(services)
    ready = found["database"] == found["storage"] == "ok"
    if not ready:
        return Ready(status="unavailable", parts=found), 503
    return Ready(status="ok" if found["redis"] == "ok" else "degraded", parts=found), 200


def _redis(services: Services) -> str:
    try:
        for client in services.redis.urls().values():
            client.ping()
    except redis.RedisError:
        return "redis_unavailable"
    return "ok"


class _LiveJobs:
    """Updates the gauge of live jobs, at most once per COUNT_EVERY_S."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._again_at = 0.0

    def refresh(self, services: Services) -> None:
        with self._lock:
            if monotonic() < self._again_at:
                return
            self._again_at = monotonic() + COUNT_EVERY_S
            telemetry.live_jobs.clear()  # no number is better than a stale one
            try:
                with services.store.autocommit() as conn:
                    counted = jobs.count_by_state(conn)
            except DatabaseUnavailable:
                return
            live = [state.value for state in JobState if state not in TERMINAL]
            # Zeros too: an alert on a series that comes and goes does not fire.
            every = product(services.settings.served_profiles, services.topology.names, live)
            for labels in {*every, *counted}:
                telemetry.live_jobs.labels(*labels).set(counted.get(labels, 0))


_live_jobs = _LiveJobs()


@bp.get("/metrics")
@describe({200: ResponseSpec("The metrics.", media_type="text/plain")}, scope=None)
def metrics() -> Result:
    """Metrics in Prometheus' text format: this process's counters, the deployment's live jobs."""
    _live_jobs.refresh(get_services())
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)
