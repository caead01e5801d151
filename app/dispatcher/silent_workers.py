"""Workers that are silent in Redis and late in Postgres: dead, or cut off from both."""

from collections.abc import Callable, Sequence
from uuid import UUID

import redis
import structlog

from app.broker.claims import Claims
from app.broker.connections import RegionRedis
from app.domain.job.lease import SILENT_FOR_S
from app.domain.routing.topology import Pool
from app.store.job.records import OverdueAttempt

log = structlog.get_logger(__name__)

Attempt = tuple[UUID, int, str | None]  # job, fence, lease token


class SilentWorkers:
    """Remembers how long the workers of overdue attempts have been silent."""

    def __init__(self, regions: RegionRedis, clock: Callable[[], float]):
        self._regions = regions
        self._clock = clock
        self._since: dict[Attempt, float] = {}

    def lost(self, overdue: Sequence[OverdueAttempt]) -> list[OverdueAttempt]:
        """Return the attempts whose worker was silent in every look for SILENT_FOR_S.

        A region whose Redis does not answer proves nothing: its attempts start from zero.
        """
        by_pool: dict[Pool, list[OverdueAttempt]] = {}
        for attempt in overdue:
            by_pool.setdefault(Pool(attempt.region, attempt.profile), []).append(attempt)
        now = self._clock()
        since: dict[Attempt, float] = {}
        lost = []
        for pool, attempts in by_pool.items():
            silent = self._silent(pool, [attempt.worker for attempt in attempts])
            for attempt in attempts:
                if attempt.worker not in silent:
                    continue
                key = (attempt.id, attempt.fence, attempt.lease_token)
                since[key] = self._since.get(key, now)
                if now - since[key] >= SILENT_FOR_S:
                    lost.append(attempt)
        self._since = since
        return lost

    def _silent(self, pool: Pool, workers: list[str]) -> set[str]:
        try:
            return Claims(self._regions.of(pool.region)).silent(pool, workers)
        except redis.RedisError as error:
            log.warning("region_unreachable", region=pool.region, error=str(error))
            return set()
