"""One process's view of traffic: the table, the controls, every region's report.

Dispatchers route by it and the API admits by it. A thread of its own reads it from the regions'
Redis once a second, and restores from Postgres the copies that a Redis has lost.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event, Lock, Thread

import redis
import structlog

from app import metrics
from app.broker import traffic
from app.broker.connections import RegionRedis
from app.broker.traffic import Copies, RegionReport
from app.config.settings import Settings
from app.domain.errors import DatabaseUnavailable
from app.domain.routing.controls import Controls
from app.domain.routing.load import ReportRefused, accept, fresh
from app.domain.routing.table import Mode, Table, TableRefused, check_published, mode
from app.domain.routing.topology import Topology
from app.store.clock import DatabaseClock
from app.store.session import Store
from app.store.traffic import controls, tables

log = structlog.get_logger(__name__)

REFRESH_S = 1.0
REST_S = 3.0  # a Redis that failed is left alone for this long


@dataclass(frozen=True)
class Snapshot:
    """Immutable. `now` is Unix time."""

    table: Table | None = None
    controls: Controls = field(default_factory=Controls)
    reports: dict[str, RegionReport] = field(default_factory=dict)

    def table_age_s(self, now: float) -> float | None:
        return None if self.table is None else max(0.0, now - self.table.created_at)

    def mode(self, now: float) -> Mode:
        return mode(self.table_age_s(now))

    def known(self, now: float) -> dict[str, RegionReport]:
        """The reports that are fresh, by region."""
        return {name: r for name, r in self.reports.items() if fresh(r.report, now)}

    def ready(self, now: float) -> dict[str, int]:
        """Ready workers of the known regions; a drained region counts as down."""
        found = {name: r.report.ready for name, r in self.known(now).items()}
        return found | dict.fromkeys(self.controls.drained, 0)


class Traffic:
    """Keeps one process's snapshot. `current` may be called from any thread.

    `clock`: Unix time; by default the database's, which all processes share.
    """

    def __init__(
        self,
        config: Settings,
        store: Store,
        regions: RegionRedis,
        *,
        clock: Callable[[], float] | None = None,
    ):
        self._topology: Topology = config.topology
        self._store = store
        self._regions = regions
        self._region = config.region
        self._clock = clock or DatabaseClock(store)
        self._snapshot = Snapshot()
        self._lock = Lock()
        self._look = Event()
        self._stopped = Event()
        self._thread: Thread | None = None
        self._resting: dict[str, float] = {}
        self._refused: str | None = None  # the last table refused, logged once

    def current(self) -> Snapshot:
        """The newest snapshot. The first call reads one, and starts the thread that reads on."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self.refresh()
                    self._thread = Thread(target=self._run, name="traffic", daemon=True)
                    self._thread.start()
        return self._snapshot

    def now(self) -> float:
        """Unix time, by the clock that reports and tables are dated with."""
        return self._clock()

    def look_now(self) -> None:
        """Something changed: read within milliseconds."""
        self._look.set()

    def close(self) -> None:
        self._stopped.set()
        self._look.set()
        if self._thread is not None:
            self._thread.join(timeout=3.0)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._look.wait(REFRESH_S)
            self._look.clear()
            if not self._stopped.is_set():
                self.refresh()

    def refresh(self) -> None:
        """Read everything once. Parts that cannot be read stay as they were, and age."""
        by_url: dict[str, list[str]] = {}
        for name in self._topology.names:
            by_url.setdefault(self._regions.url(name), []).append(name)
        own = self._regions.url(self._region)
        table: str | None = None
        decided: Controls | None = None
        reports = dict(self._snapshot.reports)
        lost: dict[str, Copies] = {}  # of regions whose Redis lacks some
        for url, names in by_url.items():
            if self._clock() < self._resting.get(url, 0.0):
                continue
            try:
                copies = traffic.read(self._regions.of(names[0]), names)
            except redis.RedisError as error:
                self._resting[url] = self._clock() + REST_S
                log.warning("traffic_unknown", regions=names, error=str(error))
                continue
            if url == own:
                table, decided = copies.table, _controls(copies.controls)
            if copies.controls is None or copies.table is None:
                lost[names[0]] = copies
            for name, text in copies.reports.items():
                self._take_report(reports, name, text)
        if lost or table is None or decided is None:
            stored = self._restore(lost)
            if stored is not None:
                table, decided = table or stored[0], decided or stored[1]
        self._snapshot = replace(
            self._snapshot,
            reports=reports,
            table=self._newest(table),
            controls=self._snapshot.controls if decided is None else decided,
        )

    def _take_report(self, reports: dict[str, RegionReport], name: str, text: str) -> None:
        last, now = reports.get(name), self._clock()
        try:
            new = RegionReport.from_json(text)
            if last is None or new.report != last.report:
                # A stale report must not block a new one.
                before = last.report if last is not None and fresh(last.report, now) else None
                accept(new.report, before, now, self._topology)
                reports[name] = new
        except ReportRefused:
            return  # the controller counts and logs it

    def _newest(self, text: str | None) -> Table | None:
        """The table of `text` if it is sound and newer than the one in force."""
        old = self._snapshot.table
        if text is None or text == self._refused:
            return old
        try:
            table = Table.from_json(text)
            if old is not None and table.version == old.version:
                return old
            # Versions start over in a restored database; an expired table may be replaced by any.
            worthless = self._snapshot.mode(self._clock()) is Mode.LOCAL
            check_published(table, self._topology, previous=None if worthless else old)
        except TableRefused as error:
            self._refused = text
            metrics.tables_refused.labels("read", error.reason).inc()
            log.warning("table_refused", where="read", error=str(error))
            return old
        return table

    def _restore(self, lost: dict[str, Copies]) -> tuple[str | None, Controls] | None:
        """(table, controls) from Postgres; restores the copies that a region's Redis lacks."""
        try:
            with self._store.autocommit() as conn:
                table, decided = tables.latest(conn), controls.read(conn)
        except DatabaseUnavailable:
            return None
        for name, copies in lost.items():
            client = self._regions.of(name)
            try:
                if copies.controls is None:
                    self.copy_controls(name, if_missing=True)
                if copies.table is None and table is not None:
                    traffic.write_table(client, table, if_missing=True)
            except (redis.RedisError, DatabaseUnavailable) as error:
                log.warning("copies_not_restored", region=name, error=str(error))
        return table, decided

    def copy_controls(self, region: str, *, if_missing: bool = False) -> None:
        """Copy the operators' decisions to one region's Redis.

        Raises redis.RedisError, and DatabaseUnavailable.
        """
        traffic.write_controls(self._regions.of(region), self._decided, if_missing=if_missing)

    def _decided(self) -> Controls:
        with self._store.autocommit() as conn:
            return controls.read(conn)


def _controls(text: str | None) -> Controls | None:
    """The operators' decisions in Redis; None if it has none, or they are unreadable."""
    try:
        return None if text is None else Controls.from_json(text)
    except ValueError as error:
        metrics.messages_dropped.labels("controls").inc()
        log.warning("controls_unreadable", error=str(error))
        return None
