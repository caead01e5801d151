"""Claims on idle workers, in the region's Redis.

`alive` holds a worker while its process runs; `ready` while it is warm, not draining and seen
alive; `idle` only while it is also empty-handed. `claims` holds placements that have not begun. A
claim is granted while there are fewer claims than idle workers, so busy, dead, warming or unknown
workers never count. Each of these sets but `alive` exists once more for every level above 0, with
the workers that speak it; a claim for a job that needs a level is in the set of all and in the
level's. Redis may be flushed at any time: workers announce themselves again within a second, and
the fence in Postgres makes a doubled claim harmless.

Every function raises redis.RedisError; a region that does not answer is unknown, not full.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple
from uuid import UUID

import redis

from app.broker import keys
from app.broker.dropped import as_count
from app.broker.progress import CHANGED, channel
from app.domain.job.lease import CLAIM_S, IDLE_S
from app.domain.job.levels import SPEAKS
from app.domain.routing.topology import Pool

_CLAIM, _ANNOUNCE, _LOOK, _ALIVE, _WANTED, _BEGUN = (
    files("app.broker").joinpath(f"{name}.lua").read_text()
    for name in ("claim", "announce", "look", "alive", "wanted", "begun")
)

SHORT_S = 5.0  # longer than dispatchers wait before they ask a pool again that had no worker
ALIVE_KEPT_S = 3600  # an ended entry; longer than any attempt


@dataclass(frozen=True)
class ClaimResult:
    """The tokens that were granted. `left`: idle workers that nobody has claimed."""

    granted: list[str]
    left: int = 0
    capped: bool = False  # an operator's cap keeps `left` from being more

    @property
    def reason(self) -> str:
        """Why no more were granted, as written into hops."""
        return "capped" if self.capped else "no_idle_worker"


class PoolState(NamedTuple):
    """A pool's workers. `jobs` and `busy_ms` only grow: what they have served."""

    ready: int
    free: int  # idle and not claimed
    jobs: int
    busy_ms: int


class Claims:
    """The claim scripts over one Redis client."""

    def __init__(self, client: redis.Redis):
        self._client = client
        self._claim = client.register_script(_CLAIM)
        self._announce = client.register_script(_ANNOUNCE)
        self._look = client.register_script(_LOOK)
        self._alive = client.register_script(_ALIVE)
        self._wanted = client.register_script(_WANTED)
        self._begun = client.register_script(_BEGUN)

    def claim(
        self,
        pool: Pool,
        tokens: Sequence[str],
        *,
        cap: int | None = None,
        others: Iterable[Pool] = (),
    ) -> ClaimResult:
        """Offer random tokens, one for each worker wanted.

        `cap`: of the busy workers of the region, whose other pools are `others`.
        """
        if not tokens:
            return ClaimResult([])
        pools = [pool.whole] if cap is None else [pool.whole, *others]
        granted, left, capped = self._claim(
            keys=[
                *(
                    key
                    for each in pools
                    for key in (keys.idle(each), keys.claims(each), keys.ready(each))
                ),
                keys.short(pool),
                *((keys.idle(pool), keys.claims(pool), keys.ready(pool)) if pool.needs else ()),
            ],
            args=[
                int(CLAIM_S * 1000),
                int(SHORT_S * 1000),
                -1 if cap is None else cap,
                int(pool.needs > 0),
                *tokens,
            ],
        )
        return ClaimResult(list(tokens[:granted]), left, bool(capped))

    def wanted(self, pool: Pool) -> bool:
        """Whether the last claim left jobs without a worker, and none is idle now.

        A busy worker that is about to be free may then announce itself already.
        """
        names = [keys.idle(pool), keys.claims(pool), keys.short(pool)]
        return bool(self._wanted(keys=names))

    def give_back(self, pool: Pool, tokens: Sequence[str]) -> None:
        """Return claims that placed nothing."""
        if tokens:
            pipe = self._client.pipeline(transaction=False)
            for name in {keys.claims(pool.whole), keys.claims(pool)}:
                pipe.zrem(name, *tokens)
            pipe.execute()

    def announce(
        self,
        pool: Pool,
        worker: str,
        *,
        idle: bool = True,
        jobs: int = 0,
        busy_ms: int = 0,
        speaks: int = SPEAKS,
        wake: str = "",
    ) -> bool:
        """Enter or renew a ready worker. True if it was not idle before, and is now.

        `jobs` and `busy_ms`: served since the last call that did not raise. `speaks`: the worker's
        level. `wake`: what to publish for the dispatchers in the same round trip, if it is true.
        """
        names = [keys.DRAINED_WORKERS, keys.served(pool)]
        for each in pool.up_to(speaks):
            names += [keys.idle(each), keys.ready(each)]
        args: list[str | int] = [worker, int(IDLE_S * 1000), int(idle), jobs, busy_ms]
        args += [keys.WAKE, wake] if wake else []
        return bool(self._announce(keys=names, args=args) == 1)

    def show_alive(self, pool: Pool, worker: str) -> None:
        """Show that a worker process runs, whether it is ready or not."""
        args: list[str | int] = [worker, int(IDLE_S * 1000), ALIVE_KEPT_S * 1000]
        self._alive(keys=[keys.alive(pool)], args=args)

    def silent(self, pool: Pool, workers: Sequence[str]) -> set[str]:
        """Those of the workers that showed themselves once, and have stopped.

        A worker without any entry is not among them: it may be of an earlier release, or Redis was
        flushed.
        """
        if not workers:
            return set()
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.zmscore(keys.alive(pool), list(workers))
        (seconds, micros), ends = pipe.execute()
        now_ms = seconds * 1000 + micros / 1000
        return {
            worker
            for worker, end in zip(workers, ends, strict=True)
            if end is not None and end < now_ms
        }

    def withdraw(self, pool: Pool, worker: str) -> None:
        """Remove a worker that is draining, paused or cut off."""
        pipe = self._client.pipeline(transaction=False)
        for each in pool.up_to(SPEAKS):
            pipe.zrem(keys.idle(each), worker)
            pipe.zrem(keys.ready(each), worker)
        pipe.execute()

    def begun(self, pool: Pool, worker: str, token: str, job_id: UUID | None = None) -> None:
        """The worker has begun the claimed attempt: all its entries go at once.

        With `job_id`, those who wait for the job are told in the same round trip.
        """
        names = []
        for each in pool.up_to(SPEAKS):
            names += [keys.idle(each), keys.claims(each)]
        told = [] if job_id is None else [channel(job_id), CHANGED]
        self._begun(keys=names, args=[worker, token, *told])

    def counts(self, pool: Pool) -> tuple[int, int]:
        """(idle workers, claims), expired entries included until the next claim."""
        pipe = self._client.pipeline(transaction=False)
        pipe.zcard(keys.idle(pool))
        pipe.zcard(keys.claims(pool))
        idle, claims = pipe.execute()
        return idle, claims

    def is_ready(self, pool: Pool, worker: str) -> bool:
        """Whether a worker of this name is, or was a moment ago, ready."""
        return self._client.zscore(keys.ready(pool), worker) is not None

    def look(self, pool: Pool) -> PoolState:
        """Count a pool's workers, and what they have served."""
        idle, claims, ready = self._look(
            keys=[keys.idle(pool), keys.claims(pool), keys.ready(pool)]
        )
        jobs, busy_ms = self._client.hmget(keys.served(pool), "jobs", "ms")
        return PoolState(
            ready,
            max(0, min(idle, ready) - claims),
            as_count(jobs, "counter") or 0,
            as_count(busy_ms, "counter") or 0,
        )
