"""The placing loop: read the backlog, plan routes, claim workers, commit the placements."""

import random
from collections.abc import Callable
from threading import Event
from time import monotonic
from uuid import UUID

import structlog

from app.broker.publish import Publisher
from app.config.settings import Settings
from app.dispatcher.placement.backlog import POLL_S, Backlog
from app.dispatcher.placement.claims import Claimer
from app.dispatcher.placement.commit import Committer
from app.dispatcher.placement.memory import Memory
from app.dispatcher.placement.plan import Plan
from app.dispatcher.placement.probes import Probes
from app.domain.errors import DatabaseUnavailable
from app.domain.routing.topology import Pool
from app.store.clock import DatabaseClock
from app.store.job.placing import Waiting
from app.store.session import Store
from app.traffic import Traffic
from stillmotion.states import Policy

log = structlog.get_logger(__name__)

DATABASE_PAUSE_S = 0.5
CROWDED_S = 0.01  # longest pause after another dispatcher was faster


class Placer:
    """One dispatcher's placing loop. Several dispatchers share the work through row locks.

    Idle workers are claimed first, then the best waiting jobs get them.
    """

    def __init__(
        self,
        config: Settings,
        store: Store,
        publisher: Publisher,
        traffic: Traffic,
        *,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] | None = None,
        draw: Callable[[], float] = random.random,
    ):
        self._profiles = config.served_profiles
        self._topology = config.topology
        self._traffic = traffic
        self._clock = clock
        self._draw = draw
        self._probes = Probes(clock=clock, draw=draw)
        self._memory = Memory(config, clock=clock, wall=wall or DatabaseClock(store), draw=draw)
        self._backlog = Backlog(
            store,
            self._topology.names,
            self._profiles,
            batch=config.place_batch,
            clock=clock,
        )
        self._claimer = Claimer(config, self._probes, self._memory, clock=clock)
        self._committer = Committer(
            config, store, publisher, self._claimer, self._probes, self._memory
        )
        self._woken = Event()

    def kick(self, profile: str | None = None) -> None:
        """New work may be waiting, of this profile if one is given: read the backlog again, now."""
        if profile is not None and profile not in self._profiles:
            return  # another release or deployment serves it
        self._backlog.news(profile)
        self._woken.set()

    def pool_idle(self, pool: str, *, act: bool = True) -> None:
        """A worker of this pool became idle: forget that the pool refused.

        `act`: this dispatcher, of all that heard it, is to give the worker a job.
        """
        region, _, profile = pool.partition("/")
        if region not in self._topology or profile not in self._profiles:
            return  # no job here can use it, and what is remembered must stay bounded
        self._probes.worker_idle(pool)
        self._memory.worker_idle(region)
        if act:
            self._backlog.worker_idle(profile, region)
            self._woken.set()

    def run(self, stopping: Event) -> None:
        while not stopping.is_set():
            self._woken.clear()
            try:
                wait_s = min([POLL_S, *map(self.place, self._profiles)])
            except DatabaseUnavailable as error:
                log.warning("placing_paused", error=str(error))
                wait_s = DATABASE_PAUSE_S * (1 + self._draw())
            self._woken.wait(wait_s)

    def place(self, profile: str) -> float:
        """Place what can be placed of one profile. Returns the seconds until the next look.

        Every job asks its first region, then the refused ones ask their second, and so on: one
        region's overflow must not take workers that another has jobs for. Raises
        DatabaseUnavailable; claims taken by then expire.
        """
        started = self._clock()
        snapshot = self._traffic.current()
        open_regions = self._probes.open_regions(
            Pool(name, profile)
            for name in self._topology.names
            if name not in snapshot.controls.drained
        )
        jobs = self._backlog.read(profile, open_regions)
        if not jobs:
            return POLL_S
        plan = Plan(profile, self._topology, snapshot, self._memory, self._probes)
        routes = plan.start(jobs)
        claimed = 0
        placed: set[UUID] = set()
        while routes:
            grants = self._claimer.claim(routes, snapshot.controls.caps)
            claimed += sum(grant.filled for grant in grants)
            placed |= self._committer.commit(grants)
            routes = plan.advance(routes, placed)
        left = self._backlog.remove(profile, placed)
        if len(placed) < claimed:
            self._backlog.forget(profile)  # others took what seemed to wait
            return CROWDED_S * self._draw()
        if placed and self._backlog.runs_low(profile):
            self._backlog.forget(profile)
            return 0.0  # there may be more jobs than one batch holds
        return self._next_look(profile, left, started)

    def _next_look(self, profile: str, left: list[Waiting], started: float) -> float:
        """Seconds until the earliest timer of a pool or job that could change something."""
        homes = {job.request.home for job in left} | {job.next_region for job in left}
        movable = any(job.request.policy is not Policy.STRICT for job in left)
        levels = {0, *(job.needs for job in left)}
        pools = [
            Pool(name, profile, needs)
            for name in self._topology.names
            if movable or name in homes
            for needs in levels
        ]
        timers = [
            self._probes.next_at(pools, started),
            *(self._memory.record_refused_round(job.request) for job in left),
        ]
        now = self._clock()
        return min((max(0.0, at - now) for at in timers if at is not None), default=POLL_S)
