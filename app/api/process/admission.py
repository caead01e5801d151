"""At submit: whether to take a job now, or to send its user away with a time to come back."""

import random
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic, time

import redis

from app.broker import traffic
from app.broker.claims import Claims, Seen
from app.broker.connections import RegionRedis
from app.config.settings import Settings
from app.domain.errors import DatabaseUnavailable, Overloaded
from app.domain.routing.admission import CLASSES, Bounds, Class, admit, shed_shares, wait_among
from app.domain.routing.candidates import Order, candidates
from app.domain.routing.load import SMALL_POOL
from app.domain.routing.pacing import execution_delay
from app.domain.routing.table import Mode
from app.domain.routing.topology import Pool, Ring
from app.store.session import Store
from app.store.traffic import demand
from app.telemetry import shed_submits
from app.traffic import Snapshot, Traffic

LIVE_S = 0.25  # how long one look at a home serves all submits
DRAINED_RETRY_S = 60.0


@dataclass(frozen=True)
class Region:
    """What a job would meet there. Times in seconds."""

    ready: int
    idle: int
    waiting: int
    service_s: float


@dataclass
class Admission:
    """Safe for threads."""

    settings: Settings
    store: Store
    redis: RegionRedis
    traffic: Traffic
    _lock: Lock = field(default_factory=Lock)
    _live: dict[str, tuple[float, Region]] = field(default_factory=dict)

    def check(
        self, order: Order, priority: int, max_queue_s: float, *, dry_run: bool = False
    ) -> float:
        """Seconds to hold the job back before it is placed, mostly 0. Raises Overloaded.

        Where nothing is known, or no worker is up at all, jobs are taken: they wait in Postgres for
        as long as their users said. A dry run is no demand that the controller is to know of.
        """
        try:
            return self._check(order, priority, max_queue_s)
        except Overloaded as error:
            if not dry_run:
                self._count_refused(order.home, error.code)
            raise

    def _check(self, order: Order, priority: int, max_queue_s: float) -> float:
        snapshot = self.traffic.current()
        now = time()
        if not self.settings.admission or order.home not in snapshot.known(now):
            return 0.0
        regions = self._regions(order, snapshot, now)
        if not regions:
            raise Overloaded(
                "region_drained",
                "Every region that may serve this job is drained.",
                status=503,
                retry_after_s=DRAINED_RETRY_S,
            )
        if any(region.ready for region in regions.values()):
            self._admit(regions, CLASSES[priority], max_queue_s, snapshot, now)
        home = regions.get(order.home)
        return 0.0 if home is None else self._delay(CLASSES[priority], home)

    def _regions(self, order: Order, snapshot: Snapshot, now: float) -> dict[str, Region]:
        """The regions that may serve the job in the end, in their order; its home as it is now."""
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
                found[name] = Region(0, 0, 0, self.settings.assumed_service_s)
                continue
            report = known[name].report
            cap = decided.caps.get(name, report.ready)
            if name == order.home:
                found[name] = self._look(name, cap, report.service_s)
            else:
                ready = min(report.ready, cap)
                idle = max(0, ready - report.busy)
                found[name] = Region(ready, idle, report.waiting, report.service_s)
        return found

    def _look(self, name: str, cap: int, service_s: float) -> Region:
        """The home as it is now: a report of seconds ago would let a burst in, or keep it out."""
        with self._lock:
            until, region = self._live.get(name, (0.0, None))
            if region is not None and monotonic() < until:
                return region
            claims = Claims(self.redis.of(name))
            profiles = self.settings.served_profiles
            try:
                pools = [claims.look(Pool(name, profile)) for profile in profiles]
                with self.store.autocommit() as conn:
                    waiting = demand.waiting(conn, [name], profiles)[name]
            except (redis.RedisError, DatabaseUnavailable):
                return Region(0, 0, 0, service_s)  # not known: nobody is refused for it
            seen = Seen(*map(sum, zip(*pools, strict=True)))
            ready = min(seen.ready, cap)
            region = Region(ready, max(0, ready - seen.ready + seen.free), waiting, service_s)
            self._live[name] = monotonic() + LIVE_S, region
        return region

    def _admit(
        self,
        regions: dict[str, Region],
        kind: Class,
        max_queue_s: float,
        snapshot: Snapshot,
        now: float,
    ) -> None:
        service_s = next(iter(regions.values())).service_s
        wait_s = wait_among(
            regions,
            {name: region.waiting for name, region in regions.items()},
            {name: region.ready for name, region in regions.items()},
            {name: region.idle for name, region in regions.items()},
            service_s,
        )
        if sum(region.ready for region in regions.values()) < SMALL_POOL:
            # Half a service time is no bound for a few workers, busy most of the time as they are.
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
                f"A job would wait for about {wait_s:.0f} s now; submit it again later.",
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
        """The part of this class to refuse because all regions together have too much."""
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
        return execution_delay(utilisation, home.service_s, random.random(), random.random())

    def _count_refused(self, home: str, code: str) -> None:
        """The controller is to know of all demand, also of what was sent away."""
        shed_submits.labels(home, code).inc()
        with suppress(redis.RedisError):
            traffic.count_refused(self.redis.of(home), home)
