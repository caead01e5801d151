"""When a job will be done: from its place in the queue, the workers, and what jobs took of late."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from sqlalchemy import Row

from app.domain.job.eta import begins_in_s, left_s
from app.domain.routing.topology import Pool, Topology
from app.store.reports import service_times
from app.store.session import Store
from stillmotion.states import JobState

# Looking at the workers may take this part of a process's time, however often it is asked.
EFFORT = 0.05
SERVICE_EVERY_S = 2.0


@dataclass(frozen=True)
class View:
    """A profile's workers as they were at `at` (monotonic). Seconds."""

    at: float
    idle: Mapping[str, int]  # region -> idle workers
    busy: Mapping[str, list[float]]  # region -> how long each busy one has worked
    service_s: Mapping[str, float]  # region -> what a job takes there


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
    """Forecasts for one process. `idle` counts a pool's idle workers; None: nobody knows."""

    def __init__(self, store: Store, topology: Topology, idle: Callable[[Pool], int | None]):
        self._store = store
        self._topology = topology
        self._idle = idle
        self._known: dict[str, _Known] = {}

    def queued(
        self, profile: str, region: str, ahead: int | None, *, movable: bool
    ) -> Forecast | None:
        """For a job that waits in `region` behind `ahead` others. None: it cannot be said.

        `movable`: it may leave the region; idle workers elsewhere then serve its queue as well.
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

    def running(self, row: Row[Any], elapsed_s: float, step: int) -> Forecast | None:
        """For a job that is placed or processing. Raises DatabaseUnavailable."""
        service_s = self._service_s(self.view(row.profile), row.region)
        if service_s is None:
            return None
        if row.state == JobState.STARTING:
            return Forecast(0.0, service_s)
        return Forecast(0.0, left_s(elapsed_s, service_s, step, row.steps))

    def view(self, profile: str) -> View:
        """The workers of a profile, newly looked at unless that was a moment ago."""
        known = self._known.setdefault(profile, _Known())
        if known.view is not None and time.monotonic() < known.again_at:
            return known.view
        # While one request looks, others take the last view.
        if not known.lock.acquire(blocking=known.view is None):
            return known.view  # type: ignore[return-value]  # it was there
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
                known.service_s = service_times.of_late(conn, profile)
                known.service_at = now + SERVICE_EVERY_S
        idle = {name: self._idle(Pool(name, profile)) or 0 for name in self._topology.names}
        return View(now, idle, busy, known.service_s)

    def _service_s(self, view: View, region: str) -> float | None:
        """What a job takes there; where nothing ended yet, what one takes elsewhere."""
        known = view.service_s
        return known.get(region, sum(known.values()) / len(known) if known else None)
