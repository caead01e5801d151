"""Takes back what was lost: placements nobody began, leases nobody renews, jobs past a deadline."""

from collections.abc import Callable, Iterable
from threading import Event
from time import monotonic
from typing import Any

import redis
import structlog
from sqlalchemy import Row

from app.broker import progress
from app.broker.claims import Claims
from app.broker.connections import POOL_IDLE, RegionRedis, wake
from app.domain.errors import DatabaseUnavailable
from app.domain.job.lease import LEASE_S
from app.domain.routing.topology import Pool
from app.store.job import reaping, slots
from app.store.session import Store
from app.telemetry import reaped

log = structlog.get_logger(__name__)

FAST_S = 0.5  # unbegun placements and ended backoffs: a lost message may cost 3 s in all
SLOW_S = 2.0  # leases, attempt limits, deadlines


class Reaper:
    """Any number may run: every statement skips rows that another one has locked."""

    def __init__(
        self,
        store: Store,
        regions: RegionRedis,
        kick: Callable[[], None],
        *,
        key_concurrency: int = 0,
        clock: Callable[[], float] = monotonic,
    ):
        self._store = store
        self._key_concurrency = key_concurrency
        self._regions = regions
        self._kick = kick
        self._clock = clock
        self._answering_since: float | None = None
        self._slow_due = 0.0

    def run(self, stopping: Event) -> None:
        wait_s = 0.0
        while not stopping.wait(wait_s):
            try:
                wait_s = self.tick()
            except DatabaseUnavailable as error:
                log.warning("cannot reap", error=str(error))
                self._answering_since = None
                wait_s = FAST_S

    def tick(self) -> float:
        """Reap once; returns the seconds until the next look. Raises DatabaseUnavailable."""
        now = self._clock()
        if self._answering_since is None:
            self._answering_since = now
        with self._store.begin() as tx:
            unbegun = reaping.reap_unbegun(tx)
        with self._store.begin() as tx:
            released, next_due_s = reaping.release(tx)
        with self._store.autocommit() as conn:
            owners = slots.waiting_owners(conn)
        if owners:
            # Workers pass on what they free; this finds the slots of jobs that ended otherwise.
            with self._store.begin() as tx:
                released += slots.grant_all(tx, owners, self._key_concurrency or None)
        if unbegun:
            log.warning("placements not begun", count=len(unbegun))
            reaped.labels("not_begun").inc(len(unbegun))
            self._give_back(unbegun)
        if now >= self._slow_due:
            self._slow_due = now + SLOW_S
            released += self._slow_tick(now - self._answering_since)
        if unbegun or released:
            self._kick()
        return min(FAST_S, FAST_S if next_due_s is None else next_due_s + 0.005)

    def _slow_tick(self, answering_s: float) -> int:
        """Returns how many jobs wait again."""
        lost: list[Row[Any]] = []
        # While the database was away no worker could renew: give them one lease time to do so.
        if answering_s >= LEASE_S:
            with self._store.begin() as tx:
                by_state = reaping.reap_lost(tx)
            for state, rows in by_state.items():
                log.warning("attempts lost", count=len(rows), now=state)
                reaped.labels("lost").inc(len(rows))
                lost += rows
        with self._store.begin() as tx:
            late = reaping.reap_deadlines(tx)
        self._ask_to_stop([*lost, *late])
        return len(lost)

    def _give_back(self, rows: Iterable[Row[Any]]) -> None:
        """Return the claims of placements taken back: an idle worker must not wait for their end.

        The message may still come, but its fence is stale.
        """
        for row in rows:
            try:
                claims = Claims(self._regions.of(row.region))
                pool = Pool(row.region, row.profile)
                claims.give_back(pool, [row.token])
                wake(self._regions.of(row.region), f"{POOL_IDLE}{pool}")
            except redis.RedisError as error:
                log.warning("claim not returned; it expires", region=row.region, error=str(error))

    def _ask_to_stop(self, rows: Iterable[Row[Any]]) -> None:
        """Spare the GPU work that can no longer count. The fence is what keeps it from counting."""
        for row in rows:
            try:
                progress.ask_stop(self._regions.of(row.region), row.id, row.fence)
            except redis.RedisError as error:
                log.warning("stop request not sent", region=row.region, error=str(error))
