"""A discrete-event simulation of regions, workers, users and the controller.

It calls the domain's own functions (candidates, admission, tables, backoff), so it measures the
code that the dispatcher runs. A seed determines the run; 100,000 jobs take a few seconds. How an
arm routes and retries is in `arms.py`.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol
from uuid import UUID

import numpy as np

from app.domain.job.lease import IDLE_S, LEASE_S
from app.domain.routing.candidates import RoutingRequest
from app.domain.routing.capacity import ramp
from app.domain.routing.damping import PERIOD_S, next_table, smooth
from app.domain.routing.load import REPORT_FRESH_S, Load, RegionLoad
from app.domain.routing.table import Table, TableRefused, check_invariants
from app.domain.routing.topology import Topology
from app.planning.arrivals import Arrivals
from app.planning.outcome import BUCKET_S, Record
from stillmotion.states import Policy

REENTER = 0.05  # per second, expired leases re-enter at this fraction of the lost capacity


@dataclass(frozen=True)
class Outage:
    """A region's workers die with their jobs at `start_s` and return at `end_s`."""

    region: str
    start_s: float
    end_s: float = float("inf")


@dataclass(frozen=True)
class Scenario:
    """A world to run an arm in. Times in seconds, rates per second.

    `service_scv`: squared coefficient of variation of the (gamma) service time; 1 is exponential,
    0 constant. `router_per_s`: attempts that all dispatchers together can make; None: unlimited.
    `patience_s`: how long a user waits for a start. `deadline_s`: age at which the try itself ends,
    user or not; None: `patience_s`. `resubmits`: how often a user whose try failed submits again.
    """

    topology: Topology
    gpus: Mapping[str, int]
    arrivals: Arrivals
    duration_s: float
    service_s: float = 4.0
    service_scv: float = 0.05
    patience_s: float = 20.0
    deadline_s: float | None = None
    router_per_s: float | None = None
    resubmits: int = 0
    outages: Sequence[Outage] = ()
    controller_dead: tuple[float, float] | None = None
    seed: int = 1


@dataclass(slots=True)
class Try:
    """One submission of one user."""

    request: RoutingRequest
    home: int
    submitted: float
    submission: int  # 0: the user's first
    target: int = -1  # the region whose queue it waits in, or where it runs
    overflow: bool = False  # runs in a region that its share did not select
    left: bool = False  # its user has gone, perhaps to submit again; the try may live on
    overflow_table: int = 0  # the table's version at that time
    served: bool = False  # a worker has taken it at least once
    asked: int = 0  # probe rounds, or attempts of a polling arm
    state: str = "new"  # waiting, running, lost (to be placed again), over


@dataclass(slots=True)
class Site:
    """The workers of one region, and the tries waiting for them."""

    name: str
    gpus: int
    idle: int
    busy: int = 0
    up: bool = True
    boot: int = 0  # incremented when the workers die; a job of an older boot is lost
    waiting: int = 0
    queue: deque[Try] = field(default_factory=deque)
    full: bool = False  # refused, and no worker has become idle since; not worth asking
    counted_to: float = 0.0
    down_since: float | None = None
    back_since: float | None = None


class Arm(Protocol):
    """How tries find a worker. Called by the simulation; acts through its methods."""

    routed: bool  # whether the controller makes tables for it
    policy: Policy

    def submit(self, job: Try) -> None: ...
    def idle(self, region: int) -> None: ...


class Simulation:
    """One run of one arm in one scenario. Call `run` once."""

    def __init__(self, scenario: Scenario, make_arm: Callable[["Simulation"], Arm]):
        self.scenario = scenario
        self.topology = scenario.topology
        self.names = scenario.topology.names
        self.index = {name: i for i, name in enumerate(self.names)}
        self.rng = np.random.default_rng(scenario.seed)
        self.now = 0.0
        self.sites = [Site(n, scenario.gpus[n], scenario.gpus[n]) for n in self.names]
        self.ready = {name: scenario.gpus[name] for name in self.names}  # as dispatchers see it
        self.record = Record(self.names, scenario.duration_s)
        self.table: Table | None = None
        self.in_flight: list[dict[str, int]] = [{} for _ in self.names]  # overflow, per home
        self.waiting = 0  # in all queues
        self.service_s = scenario.service_s
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._numbers = count()
        self._ids = count()
        self._router_free = 0.0
        self._origin = dict.fromkeys(self.names, 0)  # submissions since the last table
        self.demand: dict[str, float] = {}
        self._draws: list[float] = []
        self._services: list[float] = []
        self.arm = make_arm(self)

    # --- the clock ------------------------------------------------------------------------------

    def at(self, time: float, do: Callable[[Any], None], what: Any = None) -> None:
        heappush(self._events, (time, next(self._numbers), do, what))

    def draw(self) -> float:
        """Uniform in [0, 1). Drawn in batches, because single calls would dominate the run time."""
        if not self._draws:
            self._draws = self.rng.random(8192).tolist()
        return self._draws.pop()

    def run(self) -> Record:
        scenario = self.scenario
        arrivals = scenario.arrivals
        home_of = [self.index[name] for name in arrivals.names]
        for outage in scenario.outages:
            self.at(outage.start_s, self._die, self.index[outage.region])
            self.at(outage.end_s, self._return, self.index[outage.region])
        if self.arm.routed:
            self._control(None)
        incoming = zip(arrivals.times.tolist(), arrivals.homes.tolist(), strict=True)
        following = next(incoming, None)
        events = self._events
        while True:
            if following is not None and (not events or following[0] <= events[0][0]):
                self.now = following[0]
                if self.now > scenario.duration_s:
                    break
                self._submit(home_of[following[1]], 0)
                following = next(incoming, None)
            elif events and events[0][0] <= scenario.duration_s:
                self.now, _, do, what = heappop(events)
                do(what)
            else:
                break
        self.now = scenario.duration_s
        for site in self.sites:
            self._count(site)
        return self.record

    # --- users ----------------------------------------------------------------------------------

    def _submit(self, home: int, submission: int) -> None:
        bucket = int(self.now / BUCKET_S)
        self.record.tries[bucket] += 1
        if submission == 0:
            self.record.users[bucket] += 1
        self._origin[self.names[home]] += 1
        # Real ids are random in their low bits; multiplying spreads these sequential ones.
        job_id = UUID(int=next(self._ids) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128))
        request = RoutingRequest(job_id, self.names[home], self.arm.policy)
        self.arm.submit(Try(request, home, self.now, submission))

    def shed(self, job: Try, retry_after_s: float) -> None:
        """Refuse a try at submit; its user may come back after `retry_after_s`."""
        self.record.shed[int(job.submitted / BUCKET_S)] += 1
        job.state = "over"
        self._leave(job, retry_after_s)

    def expire(self, job: Try) -> None:
        """A user's patience has ended; they may submit again at once.

        Nobody cancels: the try lives on until its deadline, and a worker it gets is wasted.
        """
        self._leave(job, 0.0)
        lives_s = job.submitted + (self.scenario.deadline_s or 0.0) - self.now
        if lives_s > 0.0:
            self.at(self.now + lives_s, self._drop, job)
        else:
            self._drop(job)

    def _drop(self, job: Try) -> None:
        if job.state == "waiting":
            self.unqueue(job)
        if job.state in ("new", "waiting"):
            job.state = "over"

    def unqueue(self, job: Try) -> None:
        """Stop counting a try as waiting; its queue entry is skipped later."""
        self.sites[job.target].waiting -= 1
        self.waiting -= 1

    def _leave(self, job: Try, pause_s: float) -> None:
        job.left = True
        if job.submission < self.scenario.resubmits:
            self.at(self.now + pause_s, self._again, job)
        else:
            self.record.unserved_users += 1

    def _again(self, job: Try) -> None:
        self._submit(job.home, job.submission + 1)

    # --- workers --------------------------------------------------------------------------------

    def attempt(self) -> None:
        """Count a request for a worker."""
        self.record.attempts[int(self.now / BUCKET_S)] += 1

    def through_router(self, do: Callable[[Any], None], what: Any) -> None:
        """Call `do(what)` when the dispatchers' own capacity allows, first come first served."""
        rate = self.scenario.router_per_s
        if rate is None:
            do(what)
            return
        self._router_free = max(self._router_free, self.now) + 1.0 / rate
        self.at(self._router_free, do, what)

    def start(self, job: Try, region: int) -> None:
        """Give an idle worker of the region to the try. The caller has checked that one is idle."""
        site = self.sites[region]
        self._count(site)
        site.idle -= 1
        site.busy += 1
        site.full = site.idle == 0  # a claim's result says how many workers are left
        if job.state == "waiting":
            self.unqueue(job)
        if not self._services:
            scv, mean = self.scenario.service_scv, self.scenario.service_s
            draws = self.rng.gamma(1 / scv, mean * scv, 8192) if scv else np.full(8192, mean)
            self._services = draws.tolist()
        rtt_ms = self.topology.rtt_ms(self.names[job.home], site.name)
        done = self.now + self._services.pop()
        # The job of a lost attempt starts again but counts only once.
        first = not job.served and not job.left
        job.served = True
        job.state, job.target = "running", region
        if job.overflow:
            flights = self.in_flight[job.home]
            flights[site.name] = flights.get(site.name, 0) + 1
            job.overflow_table = self._version()
        if first:
            record, bucket = self.record, int(self.now / BUCKET_S)
            record.served[bucket] += 1
            record.at_home[bucket] += region == job.home
            record.tries_served[int(job.submitted / BUCKET_S)] += 1
            record.waits.append((job.submitted, self.now - job.submitted, job.home))
            record.latencies.append(done + rtt_ms / 1000.0 - job.submitted)
            record.rtt_ms += rtt_ms
        self.at(done, self._finish, (job, region, site.boot))

    def _finish(self, ended: tuple[Try, int, int]) -> None:
        job, region, boot = ended
        site = self.sites[region]
        if job.overflow:
            flights = self.in_flight[job.home]
            if flights.get(site.name) and job.overflow_table == self._version():
                flights[site.name] -= 1
            job.overflow = False
        if boot != site.boot:
            # Its worker died: the lease expires, and jobs come back at a bounded rate.
            job.state = "lost"
            self.record.lost += 1
            assert site.down_since is not None
            # A full region's jobs at REENTER of its S / c per second.
            spread = self.draw() * self.service_s / REENTER
            self.at(max(self.now, site.down_since + LEASE_S) + spread, self._replace, job)
            return
        self._count(site)
        site.busy -= 1
        site.idle += 1
        site.full = False
        self.arm.idle(region)

    def _version(self) -> int:
        return self.table.version if self.table is not None else 0

    def _replace(self, job: Try) -> None:
        self.arm.submit(job)

    def _count(self, site: Site) -> None:
        """Add the worker seconds since the last change to their buckets."""
        row = self.index[site.name]
        start, end = site.counted_to, min(self.now, self.scenario.duration_s)
        gpus = site.gpus if site.up else 0
        while start < end:
            bucket = int(start / BUCKET_S)
            until = min(end, (bucket + 1) * BUCKET_S)
            self.record.busy_s[row, bucket] += site.busy * (until - start)
            self.record.ready_s[row, bucket] += gpus * (until - start)
            start = until
        site.counted_to = end

    # --- outages and the controller ---------------------------------------------------------------

    def _die(self, region: int) -> None:
        site = self.sites[region]
        self._count(site)
        site.idle = site.busy = 0
        site.up, site.full = False, True
        site.boot += 1
        site.down_since, site.back_since = self.now, None
        self.at(self.now + IDLE_S, self._seen, region)  # idle entries expire

    def _return(self, region: int) -> None:
        site = self.sites[region]
        self._count(site)
        site.up, site.full = True, False
        site.idle = site.gpus
        site.back_since = self.now
        self._seen(region)
        for _ in range(site.idle):
            self.arm.idle(region)

    def _seen(self, region: int) -> None:
        site = self.sites[region]
        self.ready[site.name] = site.gpus if site.up else 0

    def load(self) -> Load:
        """The controller's view: smoothed origin demand, and workers of regions that report."""
        regions = {}
        for site in self.sites:
            away = not site.up and self.now - (site.down_since or 0.0) >= REPORT_FRESH_S
            since = None if site.back_since is None else self.now - site.back_since
            regions[site.name] = RegionLoad(
                ready=0 if away else site.gpus,
                demand=self.demand.get(site.name, 0.0),
                service_s=self.service_s,
                busy=site.busy,
                ramp=ramp(since),
            )
        return Load(regions)

    def _control(self, _: Any) -> None:
        self.at(self.now + PERIOD_S, self._control)
        dead = self.scenario.controller_dead
        if dead is not None and dead[0] <= self.now < dead[1]:
            return
        if self.now > 0.0:
            sample = {name: n / PERIOD_S for name, n in self._origin.items()}
            self.demand = smooth(self.demand, sample, PERIOD_S)
            self._origin = dict.fromkeys(self.names, 0)
        load = self.load()
        table = next_table(self.table, load, self.topology, self.now)
        try:
            # Bursts are deliberate jumps in demand here; every other invariant must hold.
            check_invariants(table, load, self.topology)
        except TableRefused:
            self.record.tables_refused += 1
            return
        if self.table is not None and table.changed:
            self.record.table_changes.append(self.now)
        self.table = table
        # Earlier overflow counts as busy in the new table's spare workers.
        self.in_flight = [{} for _ in self.names]
