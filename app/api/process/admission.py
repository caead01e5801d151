"""Decides at submit whether to take a job now or to refuse it with a time to retry."""

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

import redis

from app.api.process.forecast import Forecaster
from app.broker import traffic
from app.broker.claims import Claims, PoolState
from app.broker.connections import RegionRedis
from app.config.settings import Settings
from app.domain.errors import DatabaseUnavailable, Overloaded
from app.domain.routing.admission import CLASSES, Bounds, Class, admit, shed_shares, wait_among
from app.domain.routing.candidates import RoutingRequest, candidates
from app.domain.routing.load import SMALL_POOL
from app.domain.routing.pacing import execution_delay
from app.domain.routing.table import Mode
from app.domain.routing.topology import Pool, Ring
from app.metrics import shed_submits
from app.store.job.queue import Backlog
from app.store.session import Store
from app.store.traffic import demand
from app.traffic import Snapshot, Traffic

LIVE_S = 0.25  # how long one look at a home region serves all submits
DRAINED_RETRY_S = 60.0


@dataclass(frozen=True)
class Region:
    """What a job would find there. Times in seconds."""

    ready: int
    idle: int
    waiting: int
    service_s: float | None  # of a waiting job; None: not known yet


@dataclass
class Admission:
    """Thread-safe."""

    settings: Settings
    store: Store
    redis: RegionRedis
    traffic: Traffic
    forecaster: Forecaster
    _lock: Lock = field(default_factory=Lock)
    _live: dict[str, tuple[float, Region]] = field(default_factory=dict)

    def check(
        self, order: RoutingRequest, priority: int, max_queue_s: float, *, dry_run: bool = False
    ) -> float:
        """Seconds to hold the job back before it is placed, mostly 0. Raises Overloaded.

        If nothing is known, or no worker is up at all, jobs are taken: they wait in Postgres for
        as long as their users allow. So are they until some job has shown how long jobs take: an
        assumed time could turn away a backlog that is gone in a second. Dry runs do not count as
        demand.
        """
        try:
            return self._check(order, priority, max_queue_s)
        except Overloaded as error:
            if not dry_run:
                self._count_refused(order.home, error.code)
            raise

    def _check(self, order: RoutingRequest, priority: int, max_queue_s: float) -> float:
        snapshot = self.traffic.current()
        now = self.traffic.now()
        if not self.settings.admission or order.home not in snapshot.known(now):
            return 0.0
        regions = self._regions(order, snapshot, now)
        if not regions:
            raise Overloaded(
                "region_drained",
                "Every region allowed for this job is drained.",
                status=503,
                retry_after_s=DRAINED_RETRY_S,
            )
        if any(region.ready for region in regions.values()):
            self._admit(regions, CLASSES[priority], max_queue_s, snapshot, now)
        home = regions.get(order.home)
        return 0.0 if home is None else self._delay(CLASSES[priority], home)

    def _regions(self, order: RoutingRequest, snapshot: Snapshot, now: float) -> dict[str, Region]:
        """The regions that may end up serving the job, best first; its home as it is right now."""
        known, decided = snapshot.known(now), snapshot.controls
        found = {}
        for name in candidates(
            order,
            self.settings.topology,
            snapshot.table,
            snapshot.table_age_s(now),
            ready=snapshot.ready(now),
            in_flight={},
            rounds=Ring.ANY,  # every ring that will open while it waits
        ):
            if name in decided.drained:
                continue
            if name not in known:
                found[name] = Region(0, 0, 0, None)
                continue
            report = known[name].report
            service_s = report.service_s if known[name].measured else None
            cap = decided.caps.get(name, report.ready)
            if name == order.home:
                found[name] = self._look(name, cap, service_s)
            else:
                ready = min(report.ready, cap)
                idle = max(0, ready - report.busy)
                found[name] = Region(ready, idle, report.waiting, service_s)
        return found

    def _look(self, name: str, cap: int, service_s: float | None) -> Region:
        """The home right now: a report a few seconds old would let a burst in, or keep it out."""
        with self._lock:
            known = self._live.get(name)
            if known is not None and monotonic() < known[0]:
                return known[1]
            claims = Claims(self.redis.of(name))
            profiles = self.settings.served_profiles
            try:
                pools = [claims.look(Pool(name, profile)) for profile in profiles]
                with self.store.autocommit() as conn:
                    waiting = demand.waiting(conn, [name], profiles)[name]
                service_s = self._each_s(waiting, name) or service_s
            except (redis.RedisError, DatabaseUnavailable):
                return Region(0, 0, 0, service_s)  # unknown: refuse nobody for it
            seen = PoolState(*map(sum, zip(*pools, strict=True)))
            ready = min(seen.ready, cap)
            idle = max(0, ready - seen.ready + seen.free)
            region = Region(ready, idle, demand.count(waiting), service_s)
            self._live[name] = monotonic() + LIVE_S, region
        return region

    def _each_s(self, waiting: Mapping[str, Backlog], region: str) -> float | None:
        """Seconds that each job of these backlogs, by profile, will take; None: not known.

        Unlike a region's report this knows the jobs' sizes, and does not lag behind by 5 s.
        """
        work_s = 0.0
        for profile, backlog in waiting.items():
            if backlog.jobs:
                times = self.forecaster.view(profile).times
                if times is None:
                    return None
                work_s += backlog.jobs * times.of(backlog.cost / backlog.jobs, region)
        count = demand.count(waiting)
        return work_s / count if count else None

    def _admit(
        self,
        regions: dict[str, Region],
        kind: Class,
        max_queue_s: float,
        snapshot: Snapshot,
        now: float,
    ) -> None:
        service_s = next(
            (region.service_s for region in regions.values() if region.service_s is not None), None
        )
        if service_s is None:
            return
        wait_s = wait_among(
            regions,
            {name: region.waiting for name, region in regions.items()},
            {name: region.ready for name, region in regions.items()},
            {name: region.idle for name, region in regions.items()},
            service_s,
        )
        if sum(region.ready for region in regions.values()) < SMALL_POOL:
            # A few workers are busy most of the time, so half a service time is too tight a bound.
            bounds, shed_share = Bounds(max_queue_s, max_queue_s, max_queue_s), 0.0
        else:
            bounds, shed_share = self._bounds(), self._shed_share(kind, snapshot, now)
        verdict = admit(
            kind,
            wait_s,
            service_s,
            shed_share=shed_share,
            draw=random.random(),
            spread=random.random(),
            bounds=bounds,
        )
        if verdict.retry_after_s is not None:
            raise Overloaded(
                "too_busy",
                f"A job would now wait about {wait_s:.0f} s; submit it again later.",
                status=429,
                retry_after_s=verdict.retry_after_s,
            )

    def _bounds(self) -> Bounds:
        return Bounds(
            self.settings.interactive_wait_least_s,
            self.settings.interactive_wait_most_s,
            self.settings.batch_wait_s,
        )

    def _shed_share(self, kind: Class, snapshot: Snapshot, now: float) -> float:
        """The share of this class to refuse because all regions together are overloaded."""
        table = snapshot.table
        if table is None or not table.shed or snapshot.mode(now) is not Mode.NORMAL:
            return 0.0
        demand: dict[Class, float] = {kind: 0.0}
        for found in snapshot.known(now).values():
            for priority, rate in found.classes.items():
                each = CLASSES[int(priority)]
                demand[each] = demand.get(each, 0.0) + rate
        return shed_shares(demand, table.shed)[kind]

    def _delay(self, kind: Class, home: Region) -> float:
        wanted = self.settings.execution_delay
        if home.ready == 0 or wanted == "off" or (wanted == "batch" and kind is not Class.BATCH):
            return 0.0
        utilisation = 1.0 - home.idle / home.ready
        service_s = self.settings.assumed_service_s if home.service_s is None else home.service_s
        return execution_delay(utilisation, service_s, random.random(), random.random())

    def _count_refused(self, home: str, code: str) -> None:
        """The controller needs all demand, including refused submits."""
        shed_submits.labels(home, code).inc()
        with suppress(redis.RedisError):
            traffic.count_refused(self.redis.of(home), home)
