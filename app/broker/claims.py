"""Claims on idle workers, in the region's Redis.

`idle` holds a worker only while it is warm, empty-handed, not draining and seen alive; `claims`
holds placements that have not begun. A claim is granted while there are fewer claims than idle
workers, so a busy, dead, warming or unknown worker is never counted. Redis may be flushed at any
time: workers announce themselves again within a second, and the fence in Postgres catches what a
doubled claim would do.

Every function raises redis.RedisError; a region that does not answer is unknown, not full.
"""

from collections.abc import Sequence
from importlib.resources import files

import redis

from app.domain.lease import CLAIM_S, IDLE_S
from app.domain.pools import Pool

_CLAIM = files("app.broker").joinpath("claim.lua").read_text()
_ANNOUNCE = files("app.broker").joinpath("announce.lua").read_text()


def _idle(pool: Pool) -> str:
    # The braces keep one pool's keys on one shard of a Redis cluster.
    return f"{{{pool}}}:idle"


def _claims(pool: Pool) -> str:
    return f"{{{pool}}}:claims"


class Claims:
    """The claim scripts over one Redis client."""

    def __init__(self, client: redis.Redis):
        self._client = client
        self._claim = client.register_script(_CLAIM)
        self._announce = client.register_script(_ANNOUNCE)

    def claim(self, pool: Pool, tokens: Sequence[str]) -> list[str]:
        """Those of the offered random tokens that were granted."""
        if not tokens:
            return []
        granted = self._claim(
            keys=[_idle(pool), _claims(pool)], args=[int(CLAIM_S * 1000), *tokens]
        )
        return list(tokens[:granted])

    def give_back(self, pool: Pool, tokens: Sequence[str]) -> None:
        """Return claims that placed nothing."""
        if tokens:
            self._client.zrem(_claims(pool), *tokens)

    def announce(self, pool: Pool, worker: str) -> bool:
        """Enter or renew an idle worker. True if it was not in the set."""
        return bool(self._announce(keys=[_idle(pool)], args=[worker, int(IDLE_S * 1000)]))

    def withdraw(self, pool: Pool, worker: str) -> None:
        """Take a worker out: it is draining, or holds work."""
        self._client.zrem(_idle(pool), worker)

    def begun(self, pool: Pool, worker: str, token: str) -> None:
        """The worker has begun the claimed attempt: both entries go in one transaction."""
        pipe = self._client.pipeline(transaction=True)
        pipe.zrem(_idle(pool), worker)
        pipe.zrem(_claims(pool), token)
        pipe.execute()

    def counts(self, pool: Pool) -> tuple[int, int]:
        """(idle workers, claims), expired entries included until the next claim."""
        pipe = self._client.pipeline(transaction=False)
        pipe.zcard(_idle(pool))
        pipe.zcard(_claims(pool))
        idle, claims = pipe.execute()
        return idle, claims

    def idle_now(self, pool: Pool, now_ms: float) -> int:
        """Idle workers that no claim stands for; `now_ms`: Unix time, near enough to Redis' own."""
        pipe = self._client.pipeline(transaction=False)
        pipe.zcount(_idle(pool), now_ms, "+inf")
        pipe.zcount(_claims(pool), now_ms, "+inf")
        idle, claims = pipe.execute()
        return max(0, idle - claims)
