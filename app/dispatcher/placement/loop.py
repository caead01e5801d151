"""Placement: claim idle workers first, then give the best waiting jobs to them."""

import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event
from time import monotonic, time
from uuid import UUID

import redis
import structlog

from app.broker.claims import Claims
from app.broker.connections import RegionRedis
from app.broker.publish import Publisher, PublishFailed
from app.config.settings import Settings
from app.dispatcher.placement.probes import Probes
from app.dispatcher.placement.routes import Routes, Way
from app.domain.errors import DatabaseUnavailable
from app.domain.routing.topology import Pool
from app.store.job import attempts, placing
from app.store.job.placing import Offer, Placed, Waiting
from app.store.session import Store
from app.telemetry import placements, refused_probes
from app.traffic import Snapshot, Traffic
from stillmotion.states import Policy

log = structlog.get_logger(__name__)

POLL_S = 1.0  # wake-ups may be lost
DATABASE_PAUSE_S = 0.5
CROWDED_S = 0.01  # at most, after another dispatcher was faster


@dataclass(frozen=True)
class Backlog:
    """The first waiting jobs, as seen at a monotonic time."""

    jobs: list[Waiting]
    seen_at: float
    generation: int


@dataclass
class Grant:
    """Claims on `target`, and the jobs that came there for them; `reason` is for those left out."""

    target: str
    tokens: list[str]
    ways: list[Way]
    reason: str

    def offers(self) -> list[Offer]:
        return [way.offer() for way in self.ways]


class Placer:
    """One dispatcher's placing loop. Several dispatchers share the work through row locks."""

    def __init__(
        self,
        config: Settings,
        store: Store,
        publisher: Publisher,
        traffic: Traffic,
        *,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        draw: Callable[[], float] = random.random,
    ):
        self._config = config
        self._topology = config.topology
        self._store = store
        self._publisher = publisher
        self._traffic = traffic
        self._redis = RegionRedis(config, timeout_s=config.claim_timeout_s)
        self._claims = {name: Claims(self._redis.of(name)) for name in self._topology.names}
        self._clock = clock
        self._draw = draw
        self._probes = Probes()
        self._routes = Routes(config, self._probes, clock=clock, wall=wall, draw=draw)
        self._backlogs: dict[str, Backlog] = {}
        self._generation = 0  # of the news about waiting jobs
        self._woken = Event()

    def kick(self) -> None:
        """New work may wait: count again, now."""
        self._generation += 1
        self._woken.set()

    def pool_idle(self, pool: str, *, act: bool = True) -> None:
        """A worker of this pool turned idle: forget that the pool refused.

        `act`: of all dispatchers it is this one that is to give the worker a job. What is known of
        the backlog is kept if jobs are known to wait in that very pool; another dispatcher may have
        heard of those that are not.
        """
        self._probes.idle(pool)
        region, _, profile = pool.partition("/")
        self._routes.heard(region)
        if not act:
            return
        backlog = self._backlogs.get(profile)
        if backlog is None or not any(job.next_region == region for job in backlog.jobs):
            self._generation += 1
        self._woken.set()

    def run(self, stopping: Event) -> None:
        while not stopping.is_set():
            self._woken.clear()
            try:
                wait_s = min([POLL_S, *(self.place(name) for name in self._config.served_profiles)])
            except DatabaseUnavailable as error:
                log.warning("cannot place", error=str(error))
                wait_s = DATABASE_PAUSE_S * (1 + self._draw())
            self._woken.wait(wait_s)

    def place(self, profile: str) -> float:
        """Place what can be placed of one profile. Returns the seconds until it is worth a look.

        Every job asks its first region, then the refused ones ask their second, and so on: one
        region's overflow must not take workers that another one has jobs for. Raises
        DatabaseUnavailable; claims taken by then run out by themselves.
        """
        snapshot = self._traffic.current()
        jobs = self._waiting(profile, snapshot)
        if not jobs:
            return POLL_S
        found = self._routes.begin(profile, snapshot)
        ways: list[Way] = []
        for job in jobs:
            way = found.way(job)
            if way is not None and found.step(way):
                ways.append(way)
        claimed = 0
        placed: set[UUID] = set()
        while ways:
            grants = self._claim(profile, snapshot, ways)
            claimed += sum(min(len(grant.tokens), len(grant.ways)) for grant in grants)
            placed |= self._commit(profile, grants)
            ways = [w for w in ways if w.job.job_id not in placed and found.step(w)]
        return self._next_look(profile, jobs, placed, claimed)

    def _waiting(self, profile: str, snapshot: Snapshot) -> list[Waiting]:
        """The jobs that come first. Read anew once a second, or when told of new ones."""
        known = self._backlogs.get(profile)
        now = self._clock()
        # Read before counting: news that comes meanwhile must not be overlooked.
        generation = self._generation
        if known is not None and known.generation == generation and now < known.seen_at + POLL_S:
            return known.jobs
        with self._store.autocommit() as conn:
            jobs = placing.peek(
                conn,
                profile,
                self._topology.names,
                open_=self._routes.open_(profile, snapshot),
                limit=self._config.place_batch,
            )
        self._backlogs[profile] = Backlog(jobs, now, generation)
        return jobs

    def _claim(self, profile: str, snapshot: Snapshot, ways: list[Way]) -> list[Grant]:
        """Ask every pool once, for as many workers as jobs have come to it."""
        comers: dict[str, list[Way]] = {}
        for way in ways:
            comers.setdefault(way.at, []).append(way)
        grants = []
        for target, came in comers.items():
            tokens, reason = self._probe(Pool(target, profile), len(came), snapshot)
            if any(way.job.order.home != target for way in came):
                self._routes.forwarded(target, accepted=bool(tokens))
            if tokens:
                starters = self._starters(target, came, len(tokens))
                grants.append(Grant(target, tokens, starters, reason))
            else:
                for way in came:
                    way.refused(reason)
        return grants

    def _starters(self, target: str, came: list[Way], workers: int) -> list[Way]:
        """The jobs for these workers, and after them those that stand in if others took the first.

        Retries beyond the region's budget wait; they never fail for it.
        """
        chosen: list[Way] = []
        for way in came:
            if len(chosen) >= workers:
                if way.job.begun == 0:
                    chosen.append(way)
            elif self._routes.may_start(way.job, target):
                chosen.append(way)
            else:
                way.refused("retry_budget")
        return chosen

    def _probe(self, pool: Pool, wanted: int, snapshot: Snapshot) -> tuple[list[str], str]:
        """Claim up to `wanted` workers. Returns the tokens, and why there are no more."""
        news = self._probes.news(pool)
        offered = [secrets.token_hex(8) for _ in range(wanted)]
        try:
            answer = self._claims[pool.region].claim(
                pool,
                offered,
                cap=snapshot.controls.caps.get(pool.region),
                others=self._siblings(pool),
            )
        except redis.RedisError as error:
            log.warning("region does not answer", region=pool.region, error=str(error))
            self._probes.close(pool, "region_unknown", self._clock(), self._draw())
            refused_probes.labels(pool.region).inc()
            return [], "region_unknown"
        self._probes.answered(pool, answer, news, self._clock(), self._draw())
        if len(answer.granted) < wanted:
            refused_probes.labels(pool.region).inc()
        return answer.granted, answer.reason

    def _siblings(self, pool: Pool) -> list[Pool]:
        """The region's other pools, whose busy workers count against its cap."""
        names = self._config.served_profiles
        return [Pool(pool.region, name) for name in names if name != pool.profile]

    def _commit(self, profile: str, grants: list[Grant]) -> set[UUID]:
        """One short transaction for these grants, then their messages. Unused claims go back.

        A claim is unused if another dispatcher was faster. Returns the jobs that were placed.
        """
        if not grants:
            return set()
        with self._store.begin() as tx:
            rows = [
                (grant, placing.place(tx, grant.target, grant.offers(), grant.tokens))
                for grant in grants
            ]
        placed: set[UUID] = set()
        for grant, attempts_made in rows:
            pool = Pool(grant.target, profile)
            ways = {way.job.job_id: way for way in grant.ways}
            used = {attempt.token for attempt in attempts_made}
            self._give_back(pool, [token for token in grant.tokens if token not in used])
            for attempt in attempts_made:
                way = ways.pop(attempt.job_id)
                placed.add(attempt.job_id)
                overflow = str(way.job.order.home != grant.target).lower()
                placements.labels(grant.target, overflow).inc()
                if way.spilled:
                    self._routes.spilled(way.job.order.home, grant.target)
            self._publish(pool, attempts_made)
            for way in ways.values():
                way.refused(grant.reason)
        return placed

    def _publish(self, pool: Pool, made: list[Placed]) -> None:
        if not made:
            return
        try:
            self._publisher.render(pool, [(attempt.job_id, attempt.fence) for attempt in made])
        except PublishFailed as error:
            log.warning("placements undone", pool=str(pool), count=len(made), error=str(error))
            with self._store.autocommit() as conn:
                for attempt in made:
                    attempts.take_back(conn, attempt.job_id, attempt.fence, error.code)
            self._give_back(pool, [attempt.token for attempt in made])
            self._probes.close(pool, error.code, self._clock(), self._draw())

    def _give_back(self, pool: Pool, tokens: list[str]) -> None:
        try:
            self._claims[pool.region].give_back(pool, tokens)
        except redis.RedisError as error:
            log.warning("claims not returned; they expire", pool=str(pool), error=str(error))

    def _runs_low(self, jobs: list[Waiting], left: list[Waiting]) -> bool:
        """Whether a queue that filled its batch has less than half of it left."""
        remaining = Counter(job.next_region for job in left)
        batch = self._config.place_batch
        return any(
            count >= batch and remaining[region] < batch / 2
            for region, count in Counter(job.next_region for job in jobs).items()
        )

    def _next_look(
        self, profile: str, jobs: list[Waiting], placed: set[UUID], claimed: int
    ) -> float:
        """Until the earliest timer of a pool or job that could change something."""
        left = [job for job in jobs if job.job_id not in placed]
        if len(placed) < claimed:
            self._backlogs.pop(profile, None)  # others took what was thought to wait
            return CROWDED_S * self._draw()
        if placed and self._runs_low(jobs, left):
            self._backlogs.pop(profile, None)
            return 0.0  # there may be more jobs than one batch looks at
        if placed:
            known = self._backlogs[profile]
            self._backlogs[profile] = replace(known, jobs=left)
        now = self._clock()
        homes = {job.order.home for job in left} | {job.next_region for job in left}
        movable = any(job.order.policy is not Policy.STRICT for job in left)
        pools = [Pool(name, profile) for name in self._topology.names if movable or name in homes]
        timers = [self._probes.next_at(pools), *(self._routes.lost_round(job) for job in left)]
        return min((max(0.0, at - now) for at in timers if at is not None), default=POLL_S)
