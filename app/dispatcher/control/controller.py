"""The controller: makes a routing table every ten seconds from the regions' reports.

It runs in every dispatcher; one of them leads at a time. Nothing waits for it: without a table,
dispatchers route by round trip.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Event

import redis
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from app import cluster_figures, metrics
from app.broker import traffic
from app.broker.connections import TRAFFIC_CHANGED, RegionRedis, wake
from app.broker.traffic import RegionReport
from app.config.settings import Settings
from app.dispatcher.control import audit
from app.dispatcher.control.leader import lead
from app.domain.routing.capacity import load_cost, ramp
from app.domain.routing.controls import Controls
from app.domain.routing.damping import next_table, smooth
from app.domain.routing.load import NOTHING, Load, RegionLoad, Report, ReportRefused, accept, fresh
from app.domain.routing.offload import limits_of
from app.domain.routing.table import NORMAL_S, Table, TableRefused, check_invariants, make_table
from app.store.clock import DatabaseClock
from app.store.session import Store
from app.store.traffic import controls, tables

log = structlog.get_logger(__name__)

SAMPLES = 60  # (jobs/s, utilisation) kept of every region: five minutes and more
FIRST_S = 1.0
IDLE_PERIODS = 1.2  # a leader that is silent for this many periods is replaced
IDLE_LEAST_S = 8.0  # importing scipy takes seconds where processors are scarce


class Controller:
    """Makes tables while it leads. `name` is recorded in the tables' history."""

    def __init__(
        self,
        config: Settings,
        store: Store,
        regions: RegionRedis,
        name: str,
        *,
        clock: Callable[[], float] | None = None,
    ):
        self._config = config
        self._topology = config.topology
        self._store = store
        self._regions = regions
        self._name = name
        self._clock = clock or DatabaseClock(store)
        self.leads = Event()  # set while this dispatcher leads
        self._forget()

    def _forget(self) -> None:
        """Start over as a new leader, which knows only the last table."""
        self._reports: dict[str, RegionReport] = {}
        self._rejected: dict[str, str] = {}  # the report last refused, counted once
        self._demand: dict[str, float] = {}
        self._smoothed_at: float | None = None
        self._served: dict[str, deque[tuple[float, float]]] = {}
        self._away: set[str] = set()
        self._back_since: dict[str, float] = {}
        self._previous: Table | None = None
        self._version = 0
        self._gap_points: float | None = None
        self._session: Connection | None = None
        self._began = 0.0  # when it became the leader

    def run(self, stopping: Event) -> None:
        lead(
            self._store,
            self._name,
            self._turn,
            stopping,
            leads=self.leads,
            idle_s=max(IDLE_LEAST_S, IDLE_PERIODS * self._config.controller_period_s),
        )

    def _turn(self, session: Connection) -> float:
        made = self.cycle(session)
        if made is None and self._previous is None:
            return FIRST_S  # the first reports are under way
        # Jitter: other things also happen every ten seconds.
        return self._config.controller_period_s * random.uniform(0.9, 1.1)

    def cycle(self, session: Connection) -> Table | None:
        """Make, check and publish one table; None if it was refused. Then audit it."""
        if session is not self._session:
            self._forget()
            self._session = session
            self._began = self._clock()
            self._previous = self._last(session)
            self._version = tables.newest_version(session)
        now = self._clock()
        decided = controls.read(session)
        self._read_reports(now)
        self._show_reports(now)
        load = self.load(now, decided)
        # The version also counts up where the last table could not be read.
        table = replace(self._make(load, now, decided), version=self._version + 1)
        known = sum(fresh(self._report(name), now) for name in self._topology.names)
        try:
            check_invariants(
                table,
                load,
                self._topology,
                # A jump of demand that lasts is real: by then the old table is stale.
                previous=self._previous if self._young(now) else None,
                fresh=known,
            )
            tables.publish(session, table, self._name)
        except TableRefused as error:
            metrics.tables_refused.labels("made", error.reason).inc()
            log.warning("table_refused", where="made", error=str(error))
            self._copy_out(session, None)
            return None
        except IntegrityError:
            # Another leader was here, or the tables were deleted: start from those that exist.
            log.warning("table_version_taken", version=table.version)
            self._session = None
            return None
        if table.changed:
            log.info("table_changed", version=table.version, shares=table.shares)
        self._previous, self._version = table, table.version
        cluster_figures.cluster.show({"stillmotion_table_version": {(): table.version}})
        self._copy_out(session, table)
        self._audit(table, load)
        return table

    def _last(self, session: Connection) -> Table | None:
        text = tables.latest(session)
        try:
            return None if text is None else Table.from_json(text)
        except TableRefused as error:
            metrics.tables_refused.labels("read", error.reason).inc()
            log.warning("table_refused", where="read", error=str(error))
            return None

    def _young(self, now: float) -> bool:
        return self._previous is not None and now - self._previous.created_at <= NORMAL_S

    # --- reports ---------------------------------------------------------------------

    def _read_reports(self, now: float) -> None:
        for name in self._topology.names:
            try:
                text = traffic.read_report(self._regions.of(name), name)
            except redis.RedisError as error:
                log.warning("region_unreachable", region=name, error=str(error))
                continue
            if text is not None and text != self._rejected.get(name):
                self.take(name, text, now)

    def take(self, name: str, text: str, now: float) -> None:
        """Accept a report, or count it as refused and keep the last good one."""
        last = self._reports.get(name)
        try:
            new = RegionReport.from_json(text)
            if last is not None and new == last:
                return
            # A stale report must not block a new one.
            before = last.report if last is not None and fresh(last.report, now) else None
            accept(new.report, before, now, self._topology)
        except ReportRefused as error:
            self._rejected[name] = text
            metrics.reports_refused.labels(error.reason).inc()
            log.warning("report_refused", region=name, error=str(error))
            return
        self._reports[name] = new
        if last is not None:
            self._sample(name, last, new)

    def _sample(self, name: str, last: RegionReport, new: RegionReport) -> None:
        served = new.totals.jobs - last.totals.jobs
        elapsed_s = new.report.sent_at - last.report.sent_at
        if served >= 0 and elapsed_s > 0.0 and new.report.ready:
            samples = self._served.setdefault(name, deque(maxlen=SAMPLES))
            samples.append((served / elapsed_s, new.report.busy / new.report.ready))

    def _show_reports(self, now: float) -> None:
        workers: dict[tuple[str, ...], float] = {}
        ages: dict[tuple[str, ...], float] = {}
        for name in self._topology.names:
            report = self._report(name)
            ages[name,] = now - (self._began if report is None else report.sent_at)
            if report is not None and fresh(report, now):
                workers[name, "ready"], workers[name, "busy"] = report.ready, report.busy
            else:
                workers[name, "ready"] = workers[name, "busy"] = 0
        cluster_figures.cluster.show(
            {"stillmotion_region_workers": workers, "stillmotion_report_age_seconds": ages}
        )

    def _report(self, name: str) -> Report | None:
        found = self._reports.get(name)
        return None if found is None else found.report

    # --- load and table ---------------------------------------------------------------------

    def load(self, now: float, decided: Controls) -> Load:
        """Every region's load, with smoothed demand. A silent region has no workers."""
        known = {
            name: report
            for name in self._topology.names
            if (report := self._report(name)) is not None and fresh(report, now)
        }
        self._smooth({name: report.demand for name, report in known.items()}, now)
        return Load(
            {
                name: self._region(name, known.get(name), now, decided)
                for name in self._topology.names
            }
        )

    def _smooth(self, sample: Mapping[str, float], now: float) -> None:
        elapsed_s = 0.0 if self._smoothed_at is None else now - self._smoothed_at
        self._demand |= smooth(self._demand, sample, elapsed_s)
        self._smoothed_at = now

    def _region(
        self, name: str, report: Report | None, now: float, decided: Controls
    ) -> RegionLoad:
        demand = self._demand.get(name, 0.0)
        if report is None or report.ready == 0:
            if self._reports.get(name) is not None:
                self._away.add(name)
            return replace(NOTHING, demand=demand, drained=name in decided.drained)
        if name in self._away:
            self._away.discard(name)
            self._back_since[name] = now
            self._served.pop(name, None)  # of other workers
        since = self._back_since.get(name)
        cap = decided.caps.get(name)
        share = report.pinned / report.demand if report.demand > 0.0 else 0.0
        return RegionLoad(
            ready=report.ready,
            demand=demand,
            service_s=report.service_s,
            pinned=share * demand,
            busy=report.busy,
            cost=load_cost(report.ready, report.service_s, tuple(self._served.get(name, ()))),
            ramp=ramp(None if since is None else now - since),
            cap=None if cap is None else min(1.0, cap / report.ready),
            drained=name in decided.drained,
        )

    def _make(self, load: Load, now: float, decided: Controls) -> Table:
        previous = self._previous
        if not decided.pinned or previous is None:
            return next_table(previous, load, self._topology, now, self._gap_points)
        limits = limits_of(load, self._topology)
        rows = {home: self._living(home, row, load) for home, row in previous.shares.items()}
        table = make_table(
            rows,
            limits,
            load,
            version=previous.version + 1,
            now=now,
            gap_points=self._gap_points,
            changed=rows != previous.shares,
        )
        # A pinned table takes precedence over ceilings, and readers check it against those in it.
        tops = {name: max(top, table.load[name]) for name, top in table.ceilings.items()}
        return replace(table, ceilings=tops, reach=previous.reach)

    def _living(self, home: str, row: Mapping[str, float], load: Load) -> dict[str, float]:
        """A pinned row without regions that are down: pinned jobs need workers, too."""
        kept = {
            name: share
            for name, share in row.items()
            if name == home or load.of(name).capacity > 0.0
        }
        total = sum(kept.values())
        if total <= 0.0:
            return {home: 1.0}
        return {name: share / total for name, share in kept.items()}

    # --- publishing -------------------------------------------------------------------------------

    def _copy_out(self, session: Connection, table: Table | None) -> None:
        """Copy table and controls to every region's Redis.

        Dispatchers later fill in one that does not answer.
        """
        text = None if table is None else table.to_json()
        for client in self._regions.urls().values():
            try:
                traffic.write_controls(client, lambda: controls.read(session))
                if text is not None:
                    traffic.write_table(client, text)
            except redis.RedisError as error:
                log.warning("table_not_copied", error=str(error))
                continue
            if table is not None and table.changed:
                wake(client, TRAFFIC_CHANGED)

    def _audit(self, table: Table, load: Load) -> None:
        found = audit.gap_of(table, load, self._topology)
        if found is not None:
            self._gap_points = found.in_region_points
            cluster_figures.cluster.show(
                {
                    "stillmotion_optimality_gap_points": {(): found.in_region_points},
                    "stillmotion_optimality_rtt_ratio": {(): found.rtt_ratio},
                }
            )
