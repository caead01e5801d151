"""Predicts when a job will be done, from its queue position, the workers and recent jobs."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from threading import Lock

from app.broker.claims import PoolState
from app.domain.job.eta import begins_in_s, left_s
from app.domain.job.service_time import ServiceTimes, learn
from app.domain.routing.topology import Pool, Topology
from app.store.job.queue import Backlog
from app.store.job.records import JobRecord
from app.store.job.slot_queue import SlotQueue
from app.store.reports import service_times
from app.store.reports.service_times import Running
from app.store.session import Store
from stillmotion.states import JobState

# The share of a process's time that looking at the workers may take.
EFFORT = 0.05
SERVICE_EVERY_S = 2.0


@dataclass(frozen=True)
class View:
    """A profile's workers at the time `at` (monotonic). Durations in seconds."""

    at: float
    ready: Mapping[str, int | None]  # region -> workers, busy ones too; None: unknown
    idle: Mapping[str, int]  # region -> idle workers
    busy: Mapping[str, list[Running]]  # region -> what each busy worker works on
    times: ServiceTimes | None  # None: no job of the profile has succeeded yet


class _Known:
    def __init__(self) -> None:
        self.view: View | None = None
        self.again_at = 0.0
        self.times: ServiceTimes | None = None
        self.times_at = 0.0
        self.lock = Lock()


@dataclass(frozen=True)
class Forecast:
    """Seconds from now."""

    begins_s: float
    done_s: float


class Forecaster:
    """Forecasts for one process. `look` counts a pool's workers; None: unknown."""

    def __init__(self, store: Store, topology: Topology, look: Callable[[Pool], PoolState | None]):
        self._store = store
        self._topology = topology
        self._look_at = look
        self._known: dict[tuple[str, int], _Known] = {}

    def queued(
        self,
        profile: str,
        region: str,
        ahead: Backlog | None,
        *,
        cost: float,
        movable: bool,
        limited: SlotQueue | None = None,
        needs: int = 0,
    ) -> Forecast | None:
        """For a job of this cost that waits in `region` behind `ahead`. None: unknown.

        `movable`: it may leave the region, so idle workers elsewhere serve its queue too.
        `limited`: what it waits for first, if its key is at its concurrency limit.
        `needs`: the level of its worker.
        Raises DatabaseUnavailable.
        """
        view = self.view(profile, needs)
        if view.times is None or ahead is None or (needs and not any(view.ready.values())):
            return None
        service_s = view.times.of(cost, region)
        free_in = self._free_in_s(view, view.times, region, movable=movable)
        if limited is not None:
            # By then its key's own jobs in front need workers, too.
            ahead = Backlog(ahead.jobs + limited.ahead.jobs, ahead.cost + limited.ahead.cost)
        begins_s = begins_in_s(ahead.jobs, free_in, _each_s(view.times, ahead, region, service_s))
        if begins_s is None:
            return None
        if limited is not None:
            begins_s = max(begins_s, _slot_in_s(limited, view.times, region, free_in))
        return Forecast(begins_s, begins_s + service_s)

    def _free_in_s(
        self, view: View, times: ServiceTimes, region: str, *, movable: bool
    ) -> list[float]:
        """For each worker that serves the region's queue, the seconds until it is free."""
        age_s = time.monotonic() - view.at
        free_in = [
            left_s(age_s + elapsed_s, times.of(cost, region))
            for cost, elapsed_s in view.busy.get(region, ())
        ]
        regions = self._topology.names if movable else [region]
        return free_in + [0.0] * sum(view.idle.get(name, 0) for name in regions)

    def running(self, job: JobRecord, elapsed_s: float, step: int) -> Forecast | None:
        """For a job that is placed or processing. Raises DatabaseUnavailable."""
        times = self.view(job.profile).times
        if times is None:
            return None
        service_s = times.of(job.cost, job.region)
        if job.state == JobState.STARTING:
            return Forecast(0.0, service_s)
        return Forecast(0.0, left_s(elapsed_s, service_s, step, job.steps))

    def workers(self, profile: str, regions: Iterable[str], needs: int = 0) -> int | None:
        """How many workers serve the profile, at this level, in these regions; None: not known.

        Raises DatabaseUnavailable.
        """
        ready = [self.view(profile, needs).ready.get(name) for name in regions]
        return sum(each or 0 for each in ready) if any(ready) or None not in ready else None

    def view(self, profile: str, needs: int = 0) -> View:
        """The workers of a profile that speak this level, as of a moment ago.

        `busy` has those of every level.
        """
        known = self._known.setdefault((profile, needs), _Known())
        if known.view is not None and time.monotonic() < known.again_at:
            return known.view
        # While one request refreshes, the others use the last view.
        if not known.lock.acquire(blocking=known.view is None) and known.view is not None:
            return known.view
        try:
            start = time.monotonic()
            if known.view is None or start >= known.again_at:
                known.view = self._look(profile, needs, known, start)
                known.again_at = start + (time.monotonic() - start) / EFFORT
            return known.view
        finally:
            known.lock.release()

    def _look(self, profile: str, needs: int, known: _Known, now: float) -> View:
        with self._store.autocommit() as conn:
            busy = service_times.busy(conn, profile)
            if now >= known.times_at:
                known.times = learn(service_times.recent(conn, profile))
                known.times_at = now + SERVICE_EVERY_S
        seen = {name: self._look_at(Pool(name, profile, needs)) for name in self._topology.names}
        ready = {name: None if pool is None else pool.ready for name, pool in seen.items()}
        idle = {name: 0 if pool is None else pool.free for name, pool in seen.items()}
        return View(now, ready, idle, busy, known.times)


def _each_s(times: ServiceTimes, jobs: Backlog, region: str, otherwise_s: float) -> float:
    """Seconds that each of these jobs takes on average."""
    return times.of(jobs.cost / jobs.jobs, region) if jobs.jobs else otherwise_s


def _slot_in_s(
    limited: SlotQueue, times: ServiceTimes, region: str, free_in_s: Sequence[float]
) -> float:
    """Seconds until a job that waits for a slot gets one.

    The slots serve the key's jobs as workers serve a queue: each is busy until its job has ended.
    """
    if limited.limit - len(limited.holders) > limited.ahead.jobs:
        return 0.0
    free_in = [0.0] * (limited.limit - len(limited.holders))
    workers = list(free_in_s)
    heapify(workers)
    for holder in limited.holders:
        service_s = times.of(holder.cost, holder.region or region)
        if holder.state == JobState.PROCESSING:
            free_in.append(left_s(holder.elapsed_s, service_s))
        else:
            # It needs a worker first, as those before it did.
            begins_s = workers[0] if workers else 0.0
            free_in.append(begins_s + service_s)
            if workers:
                heapreplace(workers, begins_s + service_s)
    # If the limit was lowered, the first slots that become free are given to nobody.
    free_in = sorted(free_in)[len(free_in) - limited.limit :] if limited.limit else []
    each_s = _each_s(times, limited.ahead, region, 0.0)
    return begins_in_s(limited.ahead.jobs, free_in, each_s) or 0.0
