"""Regional reports, every few seconds, from each region's Redis and from Postgres.

Any number of dispatchers run this; one at a time reports on each region.
"""

import random
from collections.abc import Callable
from threading import Event

import redis
import structlog

from app.broker import traffic
from app.broker.claims import Claims, PoolState
from app.broker.connections import RegionRedis
from app.broker.traffic import RegionReport, Totals
from app.config.settings import Settings
from app.domain.errors import DatabaseUnavailable
from app.domain.routing.capacity import ewma
from app.domain.routing.load import Report, ReportRefused
from app.domain.routing.topology import Pool
from app.store.clock import DatabaseClock
from app.store.session import Store
from app.store.traffic import demand
from app.store.traffic.demand import Demand

log = structlog.get_logger(__name__)

DEMAND_WINDOW_S = 10.0
SERVICE_HALF_LIFE_S = 60.0


class Reporter:
    """Writes the reports on the regions whose turn it gets."""

    def __init__(
        self,
        config: Settings,
        store: Store,
        regions: RegionRedis,
        *,
        clock: Callable[[], float] | None = None,
    ):
        self._config = config
        self._names = config.topology.names
        self._store = store
        self._regions = regions
        self._clock = clock or DatabaseClock(store)

    def run(self, stopping: Event) -> None:
        every_s = self._config.report_every_s
        while not stopping.is_set():
            try:
                self.tick()
            except DatabaseUnavailable as error:
                log.warning("reports_paused", error=str(error))
            stopping.wait(every_s * random.uniform(0.9, 1.1))

    def tick(self) -> None:
        """Report on every region whose turn this process gets. Raises DatabaseUnavailable."""
        seen: dict[str, PoolState] = {}
        for name in self._names:
            try:
                # Shorter than the shortest period, or a reporter would find its own turn taken.
                if traffic.take_turn(
                    self._regions.of(name), name, 0.8 * self._config.report_every_s
                ):
                    seen[name] = self._look(name)
            except redis.RedisError as error:
                log.warning("region_not_reported", region=name, error=str(error))
        if not seen:
            return
        now = self._clock()
        with self._store.autocommit() as conn:
            waiting = demand.waiting(conn, list(seen), self._config.served_profiles)
            submitted = demand.submitted(conn, now, DEMAND_WINDOW_S)
            sequence = demand.next_sequence(conn)
        for name, pools in seen.items():
            try:
                recent = submitted.get(name, Demand())
                report = self._report(name, sequence, pools, demand.count(waiting[name]), recent)
                traffic.write_report(self._regions.of(name), report)
            except redis.RedisError as error:
                log.warning("region_not_reported", region=name, error=str(error))

    def _look(self, region: str) -> PoolState:
        """The region's workers over all its pools. Raises redis.RedisError."""
        claims = Claims(self._regions.of(region))
        pools = [claims.look(Pool(region, profile)) for profile in self._config.served_profiles]
        return PoolState(*map(sum, zip(*pools, strict=True)))

    def _report(
        self, name: str, sequence: int, seen: PoolState, waiting: int, demand: Demand
    ) -> RegionReport:
        """The next report; it continues the last one's counters. Raises redis.RedisError."""
        client, now = self._regions.of(name), self._clock()
        totals = Totals(seen.jobs, seen.busy_ms, traffic.refused(client, name))
        last = self._last(client, name)
        elapsed_s = DEMAND_WINDOW_S if last is None else max(1e-3, now - last.report.sent_at)
        before = totals if last is None else last.totals
        # A flush resets the counters; the counts before it are then unknown.
        refused = max(0, totals.refused - before.refused) / elapsed_s
        service_s, measured = self._config.assumed_service_s, False
        if last is not None:
            service_s, measured = last.report.service_s, last.measured
        jobs, busy_ms = totals.jobs - before.jobs, totals.busy_ms - before.busy_ms
        if last is None:
            jobs, busy_ms = totals.jobs, totals.busy_ms
        if jobs > 0 and busy_ms >= 0:
            sample = busy_ms / jobs / 1000.0
            previous = service_s if measured else None
            service_s, measured = ewma(previous, sample, elapsed_s, SERVICE_HALF_LIFE_S), True
        return RegionReport(
            Report(
                region=name,
                sequence=sequence,
                sent_at=now,
                ready=seen.ready,
                busy=max(0, seen.ready - seen.free),
                waiting=waiting,
                demand=demand.total + refused,
                service_s=service_s,
                pinned=demand.pinned,
            ),
            totals,
            measured,
            {str(priority): rate for priority, rate in demand.by_priority.items()},
        )

    def _last(self, client: redis.Redis, name: str) -> RegionReport | None:
        text = traffic.read_report(client, name)
        try:
            return None if text is None else RegionReport.from_json(text)
        except ReportRefused:
            return None
