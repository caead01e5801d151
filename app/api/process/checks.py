"""What an API process says about itself: on the internal port, and to load balancers on its own."""

from itertools import product
from threading import Lock
from time import monotonic

from app import telemetry
from app.api.process.services import Services
from app.domain.errors import DatabaseUnavailable
from app.internal_port import Checks, Readiness, readiness
from app.store.job import jobs
from stillmotion.states import TERMINAL, JobState

COUNT_EVERY_S = 5.0  # counting reads the index entry of every live job


def checks_of(services: Services) -> Checks:
    """The checks for the internal port."""
    return Checks(ready=lambda: ready(services), refresh=LiveJobs(services).refresh)


def ready(services: Services) -> Readiness:
    """Check every dependency. Degraded without Redis: jobs are accepted, and placed by polling."""
    if not services.hub.alive():
        return Readiness("unavailable", {"process": "stopping"})
    return readiness(
        {"database": services.store.check, "storage": services.objects.check},
        {"redis": lambda: [client.ping() for client in services.redis.urls().values()]},
    )


class LiveJobs:
    """Updates the gauge of live jobs, at most once per COUNT_EVERY_S."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = Lock()
        self._again_at = 0.0

    def refresh(self) -> None:
        with self._lock:
            if monotonic() < self._again_at:
                return
            self._again_at = monotonic() + COUNT_EVERY_S
            telemetry.live_jobs.clear()  # no number is better than a stale one
            try:
                with self._services.store.autocommit() as conn:
                    counted = jobs.count_by_state(conn)
            except DatabaseUnavailable:
                return
            live = [state.value for state in JobState if state not in TERMINAL]
            settings, regions = self._services.settings, self._services.topology.names
            # Zeros too: an alert on a series that comes and goes does not fire.
            for labels in {*product(settings.served_profiles, regions, live), *counted}:
                telemetry.live_jobs.labels(*labels).set(counted.get(labels, 0))
