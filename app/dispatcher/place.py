"""Placement: claim idle workers first, then give the best waiting jobs to them."""

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from time import monotonic
from typing import Any

import redis
import structlog

from app.broker.claims import Claims
from app.broker.connections import RegionRedis
from app.broker.publish import Publisher, PublishFailed
from app.config import Settings
from app.domain.backoff import probe_delay
from app.domain.errors import DatabaseUnavailable
from app.domain.pools import Pool
from app.store import attempts
from app.store.attempts import Placed, Waiting
from app.store.session import Store
from app.telemetry import placements, refused_probes

log = structlog.get_logger(__name__)

POLL_S = 1.0  # wake-ups may be lost
DATABASE_PAUSE_S = 0.5


@dataclass
class Probe:
    """When a pool that had no idle worker may be asked again. Belongs to the pool, not to a job."""

    refusals: int = 0
    not_before: float = 0.0  # monotonic
    reason: str = ""

    def refused(self, reason: str, now: float, draw: float) -> None:
        self.refusals += 1
        self.reason = reason
        self.not_before = now + probe_delay(self.refusals, draw)


@dataclass(frozen=True)
class Backlog:
    """Regions with waiting jobs, as counted at a monotonic time."""

    waiting: dict[str, Waiting]
    counted_at: float
    generation: int


@dataclass
class Search:
    """The way of one region's waiting jobs outwards, nearest region first."""

    source: str
    waiting: Waiting
    regions: list[str]
    placed: int = 0
    refusals: list[dict[str, Any]] = field(default_factory=list)  # hops

    def wanted(self, *, away: bool) -> int:
        """How many workers the rest could use, at home or away from it."""
        left = self.waiting.total - self.placed
        return min(left, self.waiting.movable) if away else left


@dataclass
class Grant:
    """Claims on `target` for jobs of a search, and how they were come by."""

    search: Search
    target: str
    tokens: list[str]
    hops: list[dict[str, Any]]


class Placer:
    """One dispatcher's placing loop. Several dispatchers share the work through row locks."""

    def __init__(
        self,
        config: Settings,
        store: Store,
        publisher: Publisher,
        *,
        clock: Callable[[], float] = monotonic,
        draw: Callable[[], float] = random.random,
    ):
        self._config = config
        self._topology = config.topology
        self._store = store
        self._publisher = publisher
        self._redis = RegionRedis(config, timeout_s=config.claim_timeout_s)
        self._claims = {name: Claims(self._redis.of(name)) for name in self._topology.names}
        self._clock = clock
        self._draw = draw
        self._probes: dict[Pool, Probe] = {}
        self._backlogs: dict[str, Backlog] = {}
        self._generation = 0  # of the news about waiting jobs
        self._woken = Event()

    def kick(self) -> None:
        """New work may wait: count again, now."""
        self._generation += 1
        self._woken.set()

    def pool_idle(self, pool: str) -> None:
        """A worker of this pool turned idle: forget that the pool refused.

        What is known of the backlog is kept if jobs are known to wait for that very pool; another
        dispatcher may have heard of those that are not.
        """
        for known in list(self._probes):
            if str(known) == pool:
                self._probes.pop(known, None)
        backlogs = self._backlogs.items()
        if not any(
            str(Pool(region, profile)) == pool
            for profile, backlog in list(backlogs)
            for region in backlog.waiting
        ):
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

        Home first for every region, then every region's nearest, and so on: an early region's
        overflow must not take workers that a later one has jobs for. Raises DatabaseUnavailable;
        claims taken by then run out by themselves.
        """
        waiting = self._waiting(profile)
        if not waiting:
            return POLL_S
        searches = [
            Search(source, count, self._topology.by_round_trip(source))
            for source, count in waiting.items()
        ]
        claimed = placed = 0
        for rank in range(len(self._topology.names)):
            grants = [grant for search in searches if (grant := self._claim(profile, search, rank))]
            claimed += sum(len(grant.tokens) for grant in grants)
            for grant, attempt in self._commit(profile, grants):
                grant.search.placed += 1
                placed += 1
                self._publish(Pool(grant.target, profile), attempt)
        if placed < claimed:
            self._backlogs.pop(profile, None)  # fewer jobs waited than was thought
        return self._next_look(profile, waiting, bool(placed))

    def _waiting(self, profile: str) -> dict[str, Waiting]:
        """Regions with waiting jobs. Counted anew once a second, or when told of new ones."""
        known = self._backlogs.get(profile)
        now = self._clock()
        # Read before counting: news that comes meanwhile must not be overlooked.
        generation = self._generation
        if known is not None and known.generation == generation and now < known.counted_at + POLL_S:
            return known.waiting
        with self._store.once() as tx:
            counted = attempts.waiting(
                tx, profile, self._topology.names, limit=self._config.place_batch
            )
        waiting = {source: count for source, count in counted.items() if count.total}
        self._backlogs[profile] = Backlog(waiting, now, generation)
        return waiting

    def _claim(self, profile: str, search: Search, rank: int) -> Grant | None:
        """Ask the pool that is `rank` regions away for as many workers as jobs could use there."""
        target = search.regions[rank]
        wanted = search.wanted(away=rank > 0)
        if wanted <= 0:
            return None
        pool = Pool(target, profile)
        tokens = self._probe(pool, wanted)
        hops = [*search.refusals, _hop(target, "placed")]
        if len(tokens) < wanted:
            search.refusals.append(_hop(target, "refused", self._reason(pool)))
        return Grant(search, target, tokens, hops) if tokens else None

    def _probe(self, pool: Pool, wanted: int) -> list[str]:
        """Claim up to `wanted` workers, unless the pool's timer says that it is too early."""
        now = self._clock()
        probe = self._probes.get(pool)
        if probe is not None and now < probe.not_before:
            return []
        try:
            tokens = self._claims[pool.region].claim(
                pool, [secrets.token_hex(8) for _ in range(wanted)]
            )
            reason = "no_idle_worker"
        except redis.RedisError as error:
            log.warning("region does not answer", region=pool.region, error=str(error))
            tokens, reason = [], "region_unknown"
        if len(tokens) < wanted:
            refused_probes.labels(pool.region).inc()
            probe = self._probes.setdefault(pool, Probe())
            if tokens:
                probe.refusals = 0
            probe.refused(reason, now, self._draw())
        else:
            self._probes.pop(pool, None)
        return tokens

    def _reason(self, pool: Pool) -> str:
        probe = self._probes.get(pool)
        return probe.reason if probe is not None else "no_idle_worker"

    def _commit(self, profile: str, grants: list[Grant]) -> list[tuple[Grant, Placed]]:
        """One short transaction for these grants; no network call inside. Unused claims go back.

        A claim is unused if another dispatcher was faster, or no job may go to its region.
        """
        if not grants:
            return []
        with self._store.begin() as tx:
            placed = [
                (grant, row)
                for grant in grants
                for row in attempts.place(
                    tx, profile, grant.search.source, grant.target, grant.tokens, grant.hops
                )
            ]
        used = {attempt.token for _, attempt in placed}
        for grant in grants:
            overflow = str(grant.search.source != grant.target).lower()
            unused = [token for token in grant.tokens if token not in used]
            placements.labels(grant.target, overflow).inc(len(grant.tokens) - len(unused))
            self._give_back(Pool(grant.target, profile), unused)
        return placed

    def _publish(self, pool: Pool, attempt: Placed) -> None:
        try:
            self._publisher.render(pool, attempt.job_id, attempt.fence)
        except PublishFailed as error:
            log.warning("placement undone", pool=str(pool), error=str(error))
            with self._store.once() as tx:
                attempts.take_back(tx, attempt.job_id, attempt.fence, error.code)
            self._give_back(pool, [attempt.token])
            probe = self._probes.setdefault(pool, Probe())
            probe.refused(error.code, self._clock(), self._draw())

    def _give_back(self, pool: Pool, tokens: list[str]) -> None:
        try:
            self._claims[pool.region].give_back(pool, tokens)
        except redis.RedisError as error:
            log.warning("claims not returned; they expire", pool=str(pool), error=str(error))

    def _next_look(self, profile: str, waiting: dict[str, Waiting], placed: bool) -> float:
        """Until the earliest timer of a pool that a waiting job could use."""
        if placed and any(count.total >= self._config.place_batch for count in waiting.values()):
            return 0.0  # there were more jobs than one batch looks at
        now = self._clock()
        regions = {
            name
            for source, count in waiting.items()
            for name in (self._topology.by_round_trip(source) if count.movable else [source])
        }
        timers = [self._probes.get(Pool(name, profile)) for name in regions]
        return min((max(0.0, t.not_before - now) for t in timers if t is not None), default=POLL_S)


def _hop(region: str, outcome: str, reason: str | None = None) -> dict[str, Any]:
    hop = {"region": region, "outcome": outcome, "at": datetime.now(UTC).isoformat()}
    return hop | {"reason": reason} if reason is not None else hop
