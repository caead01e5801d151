"""Takes back unbegun placements and expired leases, ends jobs past a deadline, moves floors."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from threading import Event
from time import monotonic

import redis
import structlog

from app import tracing
from app.broker import progress
from app.broker.claims import Claims
from app.broker.connections import POOL_IDLE, WEBHOOK_DUE, RegionRedis, wake
from app.dispatcher.silent_workers import SilentWorkers
from app.domain.errors import DatabaseUnavailable
from app.domain.job.lease import LEASE_S
from app.domain.routing.topology import Pool
from app.metrics import reaped
from app.store.job import floors, reaping, slots
from app.store.job.records import AttemptRef, RequeuedJob
from app.store.session import Store
from stillmotion.states import JobState

log = structlog.get_logger(__name__)

FAST_S = 0.5  # unbegun placements and ended backoffs: a lost message may cost 3 s in all
SLOW_S = 2.0  # leases, attempt limits
TIMER_S = 0.005  # after a backoff or a deadline ends, so that the database's clock agrees
CROWDED_S = 0.05  # between looks while deadlines pass
REHOME_EVERY_S = 15.0  # reads every waiting job
# A silence of the database up to this long leaves every live worker its lease: at most RENEW_S of
# it are gone when the silence begins, and after it a renewal comes within RENEW_S and one timeout.
BLIP_S = 10.0


class Reaper:
    """Any number may run: every statement skips rows that another one has locked.

    `known`: the regions of the deployment; jobs of others move to `region`. Their queues of
    `profiles` get floors.
    """

    def __init__(
        self,
        store: Store,
        regions: RegionRedis,
        kick: Callable[[], None],
        *,
        key_concurrency: int = 0,
        region: str = "",
        known: Collection[str] = (),
        profiles: Collection[str] = (),
        clock: Callable[[], float] = monotonic,
    ):
        self._store = store
        self._key_concurrency = key_concurrency
        self._regions = regions
        self._kick = kick
        self._clock = clock
        self._silent_workers = SilentWorkers(regions, clock)
        self._answering_since = 0.0
        self._answered_at: float | None = None
        self._slow_due = 0.0
        self._region, self._known = region, known
        self._rehome_due = 0.0
        self._profiles = profiles
        self._floors_due = self._lower_due = 0.0

    def run(self, stopping: Event) -> None:
        wait_s = 0.0
        while not stopping.wait(wait_s):
            try:
                wait_s = self.tick()
            except DatabaseUnavailable as error:
                log.warning("reaping_paused", error=str(error))
                wait_s = FAST_S

    def tick(self) -> float:
        """Reap once; returns the seconds until the next look. Raises DatabaseUnavailable."""
        with self._store.begin() as tx:
            unbegun = reaping.reap_unbegun(tx)
        now = self._clock()
        if self._answered_at is None or now - self._answered_at > BLIP_S:
            self._answering_since = now
        self._answered_at = now
        with self._store.begin() as tx:
            released, backoff_s = reaping.release(tx)
        with self._store.autocommit() as conn:
            deadline_s = reaping.next_deadline_s(conn)
        slow = now >= self._slow_due
        if slow or deadline_s == 0.0:
            self._end_late()
        with self._store.autocommit() as conn:
            owners = slots.waiting_owners(conn)
        if owners:
            # Workers pass on the slots that they free; this finds all others.
            with self._store.begin() as tx:
                released += slots.grant_all(tx, owners, self._key_concurrency or None)
        if unbegun:
            log.warning("placements_not_begun", count=len(unbegun))
            for attempt in unbegun:
                reaped.labels("not_begun", attempt.region).inc()
                _trace("not_begun", attempt)
            self._give_back(unbegun)
        released += self._reap_silent()
        if slow:
            self._slow_due = now + SLOW_S
            released += self._reap_lost(now - self._answering_since)
        if self._known and now >= self._rehome_due:
            self._rehome_due = now + REHOME_EVERY_S
            released += self._rehome()
        released += self._move_floors(now)
        if unbegun or released:
            self._kick()
        if deadline_s == 0.0:
            return CROWDED_S
        timers = [at_s + TIMER_S for at_s in (backoff_s, deadline_s) if at_s is not None]
        return min([FAST_S, *timers])

    def _reap_silent(self) -> int:
        """Returns how many jobs are waiting again."""
        with self._store.autocommit() as conn:
            overdue = reaping.overdue(conn)
        silent = self._silent_workers.lost(overdue)
        if not silent:
            return 0
        with self._store.begin() as tx:
            lost = self._note_lost(reaping.reap_silent(tx, silent))
        self._ask_to_stop(lost)
        return len(lost)

    def _note_lost(self, by_state: Mapping[JobState, Sequence[AttemptRef]]) -> list[AttemptRef]:
        for state, attempts in by_state.items():
            log.warning("attempts_lost", count=len(attempts), state=state)
            for attempt in attempts:
                reaped.labels("lost", attempt.region).inc()
                _trace("lost", attempt)
        return [attempt for attempts in by_state.values() for attempt in attempts]

    def _reap_lost(self, answering_s: float) -> int:
        """Returns how many jobs are waiting again."""
        # No worker could renew while the database was away: give them one lease time to do so. A
        # single call that fails is not such an outage.
        if answering_s < LEASE_S:
            return 0
        with self._store.begin() as tx:
            lost = self._note_lost(reaping.reap_lost(tx))
        self._ask_to_stop(lost)
        return len(lost)

    def _end_late(self) -> None:
        """End jobs past a deadline, and tell their workers, receivers and clients."""
        with self._store.begin() as tx:
            late = reaping.reap_deadlines(tx)
        self._ask_to_stop(late[JobState.CANCELED])
        if any(late.values()):
            wake(self._regions.of(self._region), WEBHOOK_DUE)

    def _move_floors(self, now: float) -> int:
        """Returns how many queues had a job that nobody saw."""
        lowered = 0
        if now >= self._floors_due:
            self._floors_due = now + floors.EVERY_S
            with self._store.autocommit() as conn:
                floors.move(conn, list(self._profiles), list(self._known))
        if now >= self._lower_due:
            self._lower_due = now + floors.LOWER_EVERY_S
            with self._store.autocommit() as conn:
                lowered = floors.lower(conn)
        return lowered

    def _rehome(self) -> int:
        """Returns how many jobs wait for a region that exists, and did not before."""
        with self._store.begin() as tx:
            moved = reaping.rehome(tx, self._known, self._region)
        if moved:
            log.warning("jobs_rehomed", count=moved, fallback=self._region)
        return moved

    def _give_back(self, rows: Iterable[RequeuedJob]) -> None:
        """Return the claims of placements taken back: an idle worker must not wait for their end.

        The message may still come, but its fence is stale.
        """
        for row in rows:
            try:
                claims = Claims(self._regions.of(row.region))
                pool = Pool(row.region, row.profile, row.needs)
                claims.give_back(pool, [row.token])
                wake(self._regions.of(row.region), f"{POOL_IDLE}{pool}")
            except redis.RedisError as error:
                log.warning("claims_not_returned", region=row.region, error=str(error))

    def _ask_to_stop(self, rows: Iterable[AttemptRef]) -> None:
        """Save GPU work that can no longer count; the fence keeps it from counting."""
        for row in rows:
            if row.region is None:
                continue  # never placed
            try:
                progress.ask_stop(self._regions.of(row.region), row.id, row.fence)
            except redis.RedisError as error:
                log.warning("stop_not_sent", region=row.region, error=str(error))


def _trace(reason: str, attempt: AttemptRef) -> None:
    """Note an attempt that was taken back: its worker cannot."""
    tracing.note(
        "take back",
        tracing.context_of(attempt.traceparent),
        {"job.id": str(attempt.id), "job.fence": attempt.fence, "reason": reason},
        failed=True,
    )
    about = tracing.about(
        attempt.id, attempt.traceparent, fence=attempt.fence, region=attempt.region
    )
    log.warning("attempt_taken_back", reason=reason, **about)
