"""Predicts when a job will be done, from its queue position, the workers and recent jobs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from app.domain.job.eta import begins_in_s, left_s
from app.domain.routing.topology import Pool, Topology
from app.store.job.records import JobRecord
from app.store.reports import service_times
from app.store.session import Store
from stillmotion.states import JobState

# The share of a process's time that looking at the workers may take.
EFFORT = 0.05
SERVICE_EVERY_S = 2.0


@dataclass(frozen=True)
class View:
    """A profile's workers at the time `at` (monotonic). Durations in seconds."""

    at: float
    idle: Mapping[str, int]  # region -> idle workers
    busy: Mapping[str, list[float]]  # region -> how long each busy worker has worked
    service_s: Mapping[str, float]  # region -> duration of a job there


@dataclass
class _Known:
    view: View | None = None
    again_at: float = 0.0
    service_s: Mapping[str, float] = field(default_factory=dict)
    service_at: float = 0.0
    lock: Lock = field(default_factory=Lock)


@dataclass(frozen=True)
class Forecast:
    """Seconds from now."""

    begins_s: float
    done_s: float


class Forecaster:
    """Forecasts for one process. `idle` counts a pool's idle workers; None: unknown."""

    def __init__(self, store: Store, topology: Topology, idle: Callable[[Pool], int | None]):
        self._store = store
        self._topology = topology
        self._idle = idle
        self._known: dict[str, _Known] = {}

    def queued(
        self, profile: str, region: str, ahead: int | None, *, movable: bool
    ) -> Forecast | None:
        """For a job waiting in `region` behind `ahead` others. None: unknown.

        `movable`: it may leave the region, so idle workers elsewhere serve its queue too.
        Raises DatabaseUnavailable.
        """
        view = self.view(profile)
        service_s = self._service_s(view, region)
        if service_s is None or ahead is None:
            return None
        age_s = time.monotonic() - view.at
        free_in = [left_s(age_s + elapsed, service_s) for elapsed in view.busy.get(region, ())]
        regions = self._topology.names if movable else [region]
        free_in += [0.0] * sum(view.idle.get(name, 0) for name in regions)
        begins_s = begins_in_s(ahead, free_in, service_s)
        return None if begins_s is None else Forecast(begins_s, begins_s + service_s)

    def running(self, job: JobRecord, elapsed_s: float, step: int) -> Forecast | None:
        """For a job that is placed or processing. Raises DatabaseUnavailable."""
        service_s = self._service_s(self.view(job.profile), job.region)
        if service_s is None:
            return None
        if job.state == JobState.STARTING:
            return Forecast(0.0, service_s)
        return Forecast(0.0, left_s(elapsed_s, service_s, step, job.steps))

    def view(self, profile: str) -> View:
        """The workers of a profile, refreshed unless the last look was a moment ago."""
        known = self._known.setdefault(profile, _Known())
        if known.view is not None and time.monotonic() < known.again_at:
            return known.view
        # While one request refreshes, the others use the last view.
        if not known.lock.acquire(blocking=known.view is None) and known.view is not None:
            return known.view
        try:
            start = time.monotonic()
            if known.view is None or start >= known.again_at:
                known.view = self._look(profile, known, start)
                known.again_at = start + (time.monotonic() - start) / EFFORT
            return known.view
        finally:
            known.lock.release()

    def _look(self, profile: str, known: _Known, now: float) -> View:
        with self._store.autocommit() as conn:
            busy = service_times.busy(conn, profile)
            if now >= known.service_at:
                known.service_s = service_times.recent(conn, profile)
                known.service_at = now + SERVICE_EVERY_S
        idle = {name: self._idle(Pool(name, profile)) or 0 for name in self._topology.names}
        return View(now, idle, busy, known.service_s)

    def _service_s(self, view: View, region: str | None) -> float | None:
        """Duration of a job in the region, or the mean of the others if none has ended there."""
        known = view.service_s
        if region is not None and region in known:
            return known[region]
        return sum(known.values()) / len(known) if known else None
