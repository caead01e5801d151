"""The arms of a comparison: ways for a job to find a worker.

`Ours` runs the domain's functions as the dispatcher does. The alternatives are the whole world as
one pool, home only, and Meta-style polling (a routing table, then blind tries at random workers),
with and without backoff and start delay.
"""

from collections.abc import Iterator

from app.domain.routing.admission import Class, admit, shed_shares, wait_among
from app.domain.routing.candidates import candidates, drawn
from app.domain.routing.pacing import PROBE_BASE_S, PROBE_CAP_S, execution_delay, probe_delay
from app.domain.routing.table import local_spare
from app.domain.routing.topology import Ring
from app.planning.simulator import Simulation, Try
from stillmotion.backoff import full_jitter
from stillmotion.states import Policy

POLL_ROUND_S = 0.002  # cost of asking a worker that refuses


class Queued:
    """Ask each of a job's regions once, then wait in the first one's queue.

    A pool that refused is not asked again until one of its workers becomes idle. That worker takes
    the first job of its own region's queue, else of the nearest queue whose head may run there.
    """

    routed = False
    policy = Policy.RING

    def __init__(self, sim: Simulation):
        self.sim = sim

    def regions(self, job: Try) -> Iterator[str]:
        raise NotImplementedError

    def submit(self, job: Try) -> None:
        self.sim.through_router(self.place, job)

    def place(self, job: Try) -> None:
        sim = self.sim
        if job.state in ("running", "over"):
            return
        first = -1
        for name in self.regions(job):
            region = sim.index[name]
            first = region if first < 0 else first
            site = sim.sites[region]
            if site.full:
                continue
            sim.attempt()
            if site.idle > 0:
                job.overflow = region not in (first, job.home)
                sim.start(job, region)
                return
            site.full = True
        self._wait(job, first)

    def _wait(self, job: Try, region: int) -> None:
        sim = self.sim
        if job.state == "waiting" and job.target != region:
            sim.unqueue(job)  # the old queue skips it
        if job.state != "waiting" or job.target != region:
            if job.state == "new":
                sim.at(job.submitted + sim.scenario.patience_s, self._out_of_patience, job)
            job.state, job.target = "waiting", region
            sim.sites[region].queue.append(job)
            sim.sites[region].waiting += 1
            sim.waiting += 1
        job.asked += 1
        sim.at(sim.now + probe_delay(job.asked, sim.draw()), self._probe, job)

    def _probe(self, job: Try) -> None:
        """Ask again if a region may be idle: rings open with every round, and tables change."""
        if job.state != "waiting":
            return
        sites = [self.sim.sites[self.sim.index[name]] for name in self.regions(job)]
        if all(site.full for site in sites):
            self._wait(job, self.sim.index[sites[0].name])
        else:
            self.sim.through_router(self.place, job)

    def _out_of_patience(self, job: Try) -> None:
        if job.state == "waiting":
            self.sim.expire(job)

    def idle(self, region: int) -> None:
        if self.sim.waiting:
            self.sim.through_router(self._give, region)

    def _give(self, region: int) -> None:
        """Give an idle worker to the first waiting job that may run there."""
        sim = self.sim
        site = sim.sites[region]
        if site.idle <= 0:
            return
        for name in sim.topology.by_round_trip(site.name):
            job = self._head(sim.index[name])
            if job is None:
                continue
            own = job.target == region
            if own or any(r == site.name for r in self.regions(job)):
                sim.sites[job.target].queue.popleft()
                job.overflow = not own and region != job.home
                sim.attempt()
                sim.start(job, region)
                return

    def _head(self, region: int) -> Try | None:
        site = self.sim.sites[region]
        while site.waiting and site.queue:
            job = site.queue[0]
            if job.state == "waiting" and job.target == region:
                return job
            site.queue.popleft()
        return None


class RandomGlobal(Queued):
    """No routing: the world is one pool, and regions are chosen in proportion to their size."""

    def regions(self, job: Try) -> Iterator[str]:
        yield drawn(self.sim.ready, job.request.draw) or job.request.home


class HomeOnly(Queued):
    """No overflow: jobs wait at home, whatever happens there."""

    def regions(self, job: Try) -> Iterator[str]:
        yield job.request.home


class Ours(Queued):
    """Candidates from table, rings and overflow; claims only on idle workers; bounded waiting."""

    routed = True

    def __init__(
        self,
        sim: Simulation,
        *,
        policy: Policy = Policy.RING,
        kind: Class = Class.INTERACTIVE,
        shedding: bool = True,
    ):
        super().__init__(sim)
        self.policy, self._kind, self._shedding = policy, kind, shedding

    def submit(self, job: Try) -> None:
        if self._shedding and job.state == "new":
            pause_s = self._refusal(job)
            if pause_s is not None:
                self.sim.shed(job, pause_s)
                return
        super().submit(job)

    def _refusal(self, job: Try) -> float | None:
        """Retry-After in seconds if admission refuses the job, else None."""
        sim = self.sim
        if sim.sites[sim.index[next(self.regions(job))]].idle:
            return None
        # Include every ring that would open while the job waits: with a far worker idle, nobody is
        # refused.
        regions = self.regions(job, Ring.ANY)
        sites = {name: sim.sites[sim.index[name]] for name in regions}
        wait_s = wait_among(
            sites,
            {name: site.waiting for name, site in sites.items()},
            sim.ready,
            {name: site.idle for name, site in sites.items()},
            sim.service_s,
        )
        table = sim.table
        shed = shed_shares({self._kind: 1.0}, table.shed if table is not None else 0.0)
        return admit(
            self._kind,
            wait_s,
            sim.service_s,
            shed_share=shed[self._kind],
            draw=sim.draw(),
            spread=sim.draw(),
        ).retry_after_s

    def regions(self, job: Try, rounds: int = 0) -> Iterator[str]:
        sim = self.sim
        home, table = job.request.home, sim.table
        return candidates(
            job.request,
            sim.topology,
            table,
            None if table is None else sim.now - table.created_at,
            ready=sim.ready,
            in_flight=sim.in_flight[job.home],
            rounds=max(job.asked, rounds),
            unlisted_spare=local_spare(sim.demand.get(home, 0.0), sim.service_s),
        )


class Polling:
    """Meta-style: draw a region from the table, then ask random workers until one is idle.

    The caller does not know which workers are idle, so a try fails as often as workers are busy.
    `backoff` adds full jitter between tries and a start delay for some of the jobs.
    """

    routed = True
    policy = Policy.RING

    def __init__(self, sim: Simulation, *, backoff: bool = False):
        self.sim, self._backoff = sim, backoff

    def submit(self, job: Try) -> None:
        sim = self.sim
        if job.state == "new":
            sim.at(job.submitted + sim.scenario.patience_s, self._out_of_patience, job)
        pause_s = 0.0
        if self._backoff:
            site = sim.sites[job.home]
            pause_s = execution_delay(site.busy / site.gpus, sim.service_s, sim.draw(), sim.draw())
        if pause_s > 0.0:
            sim.at(sim.now + pause_s, self._queue, job)
        else:
            self._queue(job)

    def _queue(self, job: Try) -> None:
        self.sim.through_router(self._ask, job)

    def _ask(self, job: Try) -> None:
        sim = self.sim
        if job.state in ("over", "running"):
            return  # it has used router capacity all the same
        sim.attempt()
        home = sim.names[job.home]
        row = sim.table.shares[home] if sim.table is not None else {home: 1.0}
        region = sim.index[drawn(row, sim.draw()) or home]
        site = sim.sites[region]
        if sim.draw() * site.gpus < site.idle:
            sim.start(job, region)
            return
        wait_s = (
            full_jitter(job.asked, sim.draw(), base_s=PROBE_BASE_S, cap_s=PROBE_CAP_S)
            if self._backoff
            else 0.0
        )
        job.asked += 1
        sim.at(sim.now + max(POLL_ROUND_S, wait_s), self._queue, job)

    def _out_of_patience(self, job: Try) -> None:
        if job.state == "new":
            self.sim.expire(job)

    def idle(self, region: int) -> None:
        """Do nothing: polling has no notification, by design."""
