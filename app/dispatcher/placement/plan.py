"""One pass over waiting jobs: the regions that each may be placed in, and which to ask next.

The domain decides from the table. The plan adds what this dispatcher knows: drained regions, pools
that just refused, regions that mostly refuse, and spare workers that its own overflow holds.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import floor
from typing import Any
from uuid import UUID

from app.dispatcher.placement.memory import Memory
from app.dispatcher.placement.probes import Probes
from app.domain.routing.candidates import candidates, drawn
from app.domain.routing.load import SMALL_POOL
from app.domain.routing.table import Table, local_spare
from app.domain.routing.topology import Pool, Topology
from app.store.job.placing import Offer, Waiting
from app.traffic import Snapshot
from stillmotion.states import Policy

NOWHERE = Pool("", "")


@dataclass
class Route:
    """The regions that one job asks in one pass, one after the other."""

    job: Waiting
    regions: Iterator[str]
    key: tuple[Any, ...]  # jobs with the same key have the same regions
    at: str  # when this pass began, ISO 8601
    pool: Pool = NOWHERE  # asked now
    overflow: bool = False  # `pool` is neither home nor where its share sent it
    refusals: list[tuple[str, str]] = field(default_factory=list)  # region, reason
    asked: bool = False  # any pool was, in this pass

    def refused(self, reason: str) -> None:
        self.refusals.append((self.pool.region, reason))

    def offer(self) -> Offer:
        hops: list[dict[str, Any]] = [
            {"region": region, "outcome": "refused", "at": self.at, "reason": reason}
            for region, reason in self.refusals
        ]
        placed = {"region": self.pool.region, "outcome": "placed", "at": self.at}
        return Offer(self.job.job_id, [*hops, placed])


class Plan:
    """The routes of one pass over the waiting jobs of a profile."""

    def __init__(
        self,
        profile: str,
        topology: Topology,
        snapshot: Snapshot,
        memory: Memory,
        probes: Probes,
    ):
        self._profile = profile
        self._topology = topology
        self._memory = memory
        self._probes = probes
        memory.prune()
        now = memory.now()
        self._at = datetime.fromtimestamp(now, UTC).isoformat()
        self._drained = snapshot.controls.drained
        self._known = snapshot.known(now)
        self._ready = memory.ready(snapshot)
        self._age_s = snapshot.table_age_s(now)
        self._table, since = self._with_fresh_spare(snapshot.table)
        service_s = {name: found.report.service_s for name, found in self._known.items()}
        self._in_flight = memory.in_flight(since, service_s)
        self._closed: set[tuple[Any, ...]] = set()  # keys whose every pool was closed at the start

    def start(self, jobs: Iterable[Waiting]) -> list[Route]:
        """The routes that have a pool to ask."""
        routes = []
        for job in jobs:
            route = self._route(job)
            if route is not None and self._step(route):
                routes.append(route)
        return routes

    def advance(self, routes: list[Route], placed: Collection[UUID]) -> list[Route]:
        """The routes of the jobs that were not placed, each at its next pool."""
        return [route for route in routes if route.job.job_id not in placed and self._step(route)]

    def _with_fresh_spare(self, table: Table | None) -> tuple[Table | None, dict[str, float]]:
        """The table with spare workers as the newest reports count them, and since when, by region.

        A table may be ten seconds old. A small pool lends whatever a claim finds idle.
        """
        if table is None:
            return None, {}
        spare, since = dict(table.spare), dict.fromkeys(table.spare, table.created_at)
        for name, found in self._known.items():
            report = found.report
            if report.ready < SMALL_POOL:
                spare[name] = max(1, report.ready)  # at 0, one may have come since
            elif report.sent_at > table.created_at:
                top = min(1.0, table.ceilings.get(name, 1.0))
                spare[name] = max(0, floor(top * report.ready - report.busy + 1e-9))
            else:
                continue
            since[name] = max(table.created_at, report.sent_at)
        return replace(table, spare=spare), since

    def _route(self, job: Waiting) -> Route | None:
        """A job's route; None if every pool on it is known to be closed."""
        request = job.request
        rounds = self._memory.rounds(job.job_id)
        row = self._table.shares.get(request.home, {}) if self._table is not None else {}
        target = drawn(row, request.draw) if len(row) > 1 else None
        allowed = None if request.allowed is None else tuple(request.allowed)
        key = (request.home, job.next_region, request.policy, allowed, rounds, target, job.needs)
        if key in self._closed:
            return None
        return Route(job, self._regions(job, rounds), key, self._at)

    def _regions(self, job: Waiting, rounds: int) -> Iterator[str]:
        home = job.request.home
        elsewhere = None
        if job.next_region != home and self._allows_next_region(job):
            # An attempt failed: a region other than its own is worth a try first.
            elsewhere = job.next_region
            yield elsewhere
        report = self._known.get(home)
        unlisted = (
            1 if report is None else local_spare(report.report.demand, report.report.service_s)
        )
        for region in candidates(
            job.request,
            self._topology,
            self._table,
            self._age_s,
            ready=self._ready,
            in_flight=self._in_flight.setdefault(home, {}),
            rounds=rounds,
            unlisted_spare=unlisted,
        ):
            if region != elsewhere:
                yield region

    def _allows_next_region(self, job: Waiting) -> bool:
        request = job.request
        return (
            request.policy is not Policy.STRICT
            and job.next_region in self._topology
            and (request.allowed is None or job.next_region in request.allowed)
        )

    def _step(self, route: Route) -> bool:
        """Move to the next region worth asking. False if this pass has none left."""
        self._release(route)
        first = not route.asked
        for n, region in enumerate(route.regions):
            chosen = first and n == 0
            route.pool = Pool(region, self._profile, route.job.needs)
            reason = self._reason_to_skip(route)
            if reason is not None:
                route.refused(reason)
                continue
            route.overflow = not chosen and region != route.job.request.home
            if route.overflow:
                self._hold(route, 1)
            route.asked = True
            return True
        if not route.asked:
            self._closed.add(route.key)
        return False

    def _reason_to_skip(self, route: Route) -> str | None:
        region = route.pool.region
        if region in self._drained:
            return "drained"
        reason = self._probes.closed(route.pool)
        if reason is None and region != route.job.request.home and self._memory.throttled(region):
            return "throttled"
        return reason

    def _hold(self, route: Route, change: int) -> None:
        row = self._in_flight.setdefault(route.job.request.home, {})
        row[route.pool.region] = row.get(route.pool.region, 0) + change

    def _release(self, route: Route) -> None:
        if route.overflow:
            self._hold(route, -1)
            route.overflow = False
