"""Where the jobs of one placement pass may go: the domain's candidates, and what limits them.

The domain decides from the table; here are the facts that a dispatcher adds: regions that operators
drained, pools that just refused, regions that mostly refuse, workers that its own forwards hold.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import floor
from time import monotonic, time
from typing import Any
from uuid import UUID

from app.config.settings import Settings
from app.dispatcher.placement.probes import Probes
from app.domain.routing.candidates import candidates, drawn
from app.domain.routing.load import SMALL_POOL
from app.domain.routing.pacing import ForwardThrottle, RetryBudget, probe_delay
from app.domain.routing.table import Table, local_spare
from app.domain.routing.topology import Pool, Ring
from app.store.job.placing import Offer, Waiting
from app.traffic import Snapshot
from stillmotion.states import Policy

FORWARD_LONGEST_S = 600.0
PATIENCE_KEPT, PATIENCE_S = 10_000, 30.0
ROUNDS = Ring.ANY - Ring.NEAR  # after so many, every ring is open


def hop(region: str, outcome: str, reason: str | None = None) -> dict[str, Any]:
    made = {"region": region, "outcome": outcome, "at": datetime.now(UTC).isoformat()}
    return made | {"reason": reason} if reason is not None else made


@dataclass
class Way:
    """One job's way outwards in one pass."""

    job: Waiting
    regions: Iterator[str]
    key: tuple[Any, ...]  # jobs of one key have the same ways
    at: str = ""  # the region that is asked now
    spilled: bool = False  # `at` is neither home nor where its share sent it
    refusals: list[tuple[str, str]] = field(default_factory=list)  # region, reason
    asked: bool = False  # a pool was, in this pass

    def refused(self, reason: str) -> None:
        self.refusals.append((self.at, reason))

    def offer(self) -> Offer:
        refusals = [hop(region, "refused", reason) for region, reason in self.refusals]
        return Offer(self.job.job_id, [*refusals, hop(self.at, "placed")])


@dataclass
class Patience:
    """How long a job has been refused: every round opens a ring."""

    rounds: int = 0
    next_at: float = 0.0


class Routes:
    """What one dispatcher remembers between passes."""

    def __init__(
        self,
        config: Settings,
        probes: Probes,
        *,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        draw: Callable[[], float],
    ):
        self._config = config
        self.topology = config.topology
        self.probes = probes
        self.clock, self._wall, self._draw = clock, wall, draw
        # Spilled jobs that were placed: when (Unix time), home, region.
        self._forwards: deque[tuple[float, str, str]] = deque()
        self._patience: dict[UUID, Patience] = {}
        self._throttles: dict[str, ForwardThrottle] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._alive: dict[str, float] = {}  # regions of which a worker was heard, Unix time

    def heard(self, region: str) -> None:
        """A worker of the region turned idle: no report that it has none is true any more."""
        self._alive[region] = self._wall()
        self._throttles.pop(region, None)

    def open_(self, profile: str, snapshot: Snapshot) -> list[str]:
        """Regions that may have a worker, as far as is known."""
        now = self.clock()
        return [
            name
            for name in self.topology.names
            if name not in snapshot.controls.drained
            and self.probes.closed(Pool(name, profile), now) is None
        ]

    def begin(self, profile: str, snapshot: Snapshot) -> "Pass":
        """Start a pass over waiting jobs."""
        if len(self._patience) > PATIENCE_KEPT:
            # A job that still waits has lost a round since.
            old = self.clock() - PATIENCE_S
            self._patience = {id_: p for id_, p in self._patience.items() if p.next_at > old}
        return Pass(self, profile, snapshot, self._wall())

    # --- asked by a pass --------------------------------------------------------------------------

    def rounds(self, job_id: UUID) -> int:
        patience = self._patience.get(job_id)
        return 0 if patience is None else min(ROUNDS, patience.rounds)

    def lost_round(self, job: Waiting) -> float | None:
        """Everything refused the job. Returns when its next ring opens; None: no more will."""
        if job.order.policy is not Policy.RING:
            return None
        now = self.clock()
        patience = self._patience.setdefault(job.job_id, Patience())
        if now >= patience.next_at:
            patience.rounds += 1
            patience.next_at = now + probe_delay(patience.rounds, self._draw())
        return patience.next_at if patience.rounds <= ROUNDS else None

    def throttled(self, region: str) -> bool:
        throttle = self._throttles.get(region)
        if throttle is None or self._draw() >= throttle.refusal(self.clock()):
            return False
        throttle.asked(self.clock(), accepted=False)
        return True

    def forwarded(self, region: str, *, accepted: bool) -> None:
        """A region was asked for workers for jobs of other homes."""
        if region not in self._throttles:
            self._throttles[region] = ForwardThrottle(
                self._config.throttle_k, self._config.throttle_window_s
            )
        self._throttles[region].asked(self.clock(), accepted=accepted)

    def may_start(self, job: Waiting, region: str) -> bool:
        """Count a job that gets a worker. False: it is a retry over the region's budget."""
        if region not in self._budgets:
            self._budgets[region] = RetryBudget(self._config.retry_ratio, self._config.retry_floor)
        budget = self._budgets[region]
        if job.begun > 0:
            return budget.take(self.clock())
        budget.request(self.clock())
        return True

    def spilled(self, home: str, region: str) -> None:
        self._forwards.append((self._wall(), home, region))

    def in_flight(
        self, since: Mapping[str, float], service_s: Mapping[str, float]
    ) -> dict[str, dict[str, int]]:
        """By home and region, the forwards that spare workers counted at `since` do not know of.

        One older than its region's service time is taken to have ended.
        """
        wall = self._wall()
        while self._forwards and wall - self._forwards[0][0] > FORWARD_LONGEST_S:
            self._forwards.popleft()
        held: dict[str, dict[str, int]] = {}
        for at, home, region in self._forwards:
            lasts_s = service_s.get(region, self._config.assumed_service_s)
            if at > since.get(region, 0.0) and wall - at <= lasts_s:
                row = held.setdefault(home, {})
                row[region] = row.get(region, 0) + 1
        return held

    def ready(self, snapshot: Snapshot, wall: float) -> dict[str, int]:
        """Workers per region. A report of none is older than a worker heard since."""
        found = snapshot.ready(wall)
        for name, at in self._alive.items():
            report = snapshot.reports.get(name)
            newer = report is None or at > report.report.sent_at
            if newer and found.get(name) == 0 and name not in snapshot.controls.drained:
                del found[name]
        return found

    def fits(self, job: Waiting) -> bool:
        """Whether the job may be tried first where its row says."""
        order = job.order
        return (
            order.policy is not Policy.STRICT
            and job.next_region in self.topology
            and (order.allowed is None or job.next_region in order.allowed)
        )


class Pass:
    """One look at the waiting jobs of a profile."""

    def __init__(self, routes: Routes, profile: str, snapshot: Snapshot, wall: float):
        self._routes = routes
        self._profile = profile
        self._snapshot = snapshot
        self._known = snapshot.known(wall)
        self._ready = routes.ready(snapshot, wall)
        self._age_s = snapshot.table_age_s(wall)
        self._table, since = self._fresh_spare(snapshot.table)
        service_s = {name: found.report.service_s for name, found in self._known.items()}
        self._in_flight = routes.in_flight(since, service_s)
        self._dead: set[tuple[Any, ...]] = set()  # keys whose every pool was closed from the start

    def _fresh_spare(self, table: Table | None) -> tuple[Table | None, dict[str, float]]:
        """The table with spare workers as the newest reports see them, and since when per region.

        A table is ten seconds old in the end; a small pool lends whatever a claim finds idle.
        """
        if table is None:
            return None, {}
        spare, since = dict(table.spare), dict.fromkeys(table.spare, table.created_at)
        for name, found in self._known.items():
            report = found.report
            if report.ready < SMALL_POOL:
                spare[name] = max(1, report.ready)  # of none, one may have come since
            elif report.sent_at > table.created_at:
                top = min(1.0, table.ceilings.get(name, 1.0))
                spare[name] = max(0, floor(top * report.ready - report.busy + 1e-9))
            else:
                continue
            since[name] = max(table.created_at, report.sent_at)
        return replace(table, spare=spare), since

    def way(self, job: Waiting) -> Way | None:
        """A job's way; None if it is known to lead nowhere now."""
        order = job.order
        rounds = self._routes.rounds(job.job_id)
        row = self._table.shares.get(order.home, {}) if self._table is not None else {}
        target = drawn(row, order.draw) if len(row) > 1 else None
        allowed = None if order.allowed is None else tuple(order.allowed)
        key = (order.home, job.next_region, order.policy, allowed, rounds, target)
        return None if key in self._dead else Way(job, self._regions(job, rounds), key)

    def _regions(self, job: Waiting, rounds: int) -> Iterator[str]:
        home = job.order.home
        sent = None
        if job.next_region != home and self._routes.fits(job):
            # An attempt failed: another region than its own is worth a try first.
            sent = job.next_region
            yield sent
        report = self._known.get(home)
        unlisted = (
            1 if report is None else local_spare(report.report.demand, report.report.service_s)
        )
        for region in candidates(
            job.order,
            self._routes.topology,
            self._table,
            self._age_s,
            ready=self._ready,
            in_flight=self._in_flight.setdefault(home, {}),
            rounds=rounds,
            unlisted_spare=unlisted,
        ):
            if region != sent:
                yield region

    def step(self, way: Way) -> bool:
        """Move to the next region that is worth asking. False: there is none in this pass."""
        self._release(way)
        first = not way.asked
        for n, region in enumerate(way.regions):
            chosen = first and n == 0
            way.at = region
            reason = self._closed(way, region)
            if reason is not None:
                way.refused(reason)
                continue
            way.spilled = not chosen and region != way.job.order.home
            if way.spilled:
                self._hold(way, 1)
            way.asked = True
            return True
        if not way.asked:
            self._dead.add(way.key)
        return False

    def _closed(self, way: Way, region: str) -> str | None:
        if region in self._snapshot.controls.drained:
            return "drained"
        routes = self._routes
        reason = routes.probes.closed(Pool(region, self._profile), routes.clock())
        if reason is None and region != way.job.order.home and routes.throttled(region):
            return "throttled"
        return reason

    def _hold(self, way: Way, change: int) -> None:
        row = self._in_flight.setdefault(way.job.order.home, {})
        row[way.at] = row.get(way.at, 0) + change

    def _release(self, way: Way) -> None:
        if way.spilled:
            self._hold(way, -1)
            way.spilled = False
