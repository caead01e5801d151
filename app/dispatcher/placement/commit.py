"""Writes placements to Postgres, then publishes their messages. Unused claims go back."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from time import monotonic
from uuid import UUID

import structlog

from app import tracing
from app.broker.publish import TIMEOUT_S as PUBLISH_TIMEOUT_S
from app.broker.publish import Publisher, PublishFailed
from app.config.settings import Settings
from app.dispatcher.placement.claims import Claimer, Grant
from app.dispatcher.placement.memory import Memory
from app.dispatcher.placement.plan import Route
from app.dispatcher.placement.probes import Probes
from app.domain.errors import DatabaseUnavailable
from app.domain.routing.topology import Pool
from app.metrics import placements
from app.store.job import attempts, placing
from app.store.job.placing import Placed
from app.store.session import Store

log = structlog.get_logger(__name__)

PUBLISH_WAIT_S = 0.25  # for a broker's answer; a round trip to the farthest takes 0.2 s


class Committer:
    """Each broker has a sending thread; regions that share a broker share it."""

    def __init__(
        self,
        config: Settings,
        store: Store,
        publisher: Publisher,
        claimer: Claimer,
        probes: Probes,
        memory: Memory,
    ):
        self._store = store
        self._publisher = publisher
        self._claimer = claimer
        self._probes = probes
        self._memory = memory
        names = config.topology.names
        threads = {
            broker: ThreadPoolExecutor(1, thread_name_prefix="publish")
            for broker in {config.broker_of(name) for name in names}
        }
        self._threads = {name: threads[config.broker_of(name)] for name in names}

    def commit(self, grants: list[Grant]) -> set[UUID]:
        """One short transaction for all grants, then their messages. Returns the placed jobs.

        A claim stays unused if another dispatcher was faster.
        """
        if not grants:
            return set()
        began = monotonic()
        # One statement is a transaction by itself, without two more round trips.
        with self._store.autocommit() if len(grants) == 1 else self._store.begin() as tx:
            written = [
                (grant, placing.place(tx, grant.pool.region, grant.offers(), grant.tokens))
                for grant in grants
            ]
        placed: set[UUID] = set()
        for grant, attempts_made in written:
            used = {attempt.token for attempt in attempts_made}
            unused = [token for token in grant.tokens if token not in used]
            self._claimer.give_back(grant.pool, unused)
            left_out = {route.job.job_id: route for route in grant.routes}
            for attempt in attempts_made:
                self._count(left_out.pop(attempt.job_id))
                placed.add(attempt.job_id)
            self._publish(grant.pool, attempts_made)
            for attempt in attempts_made:
                _trace(attempt, grant.pool, monotonic() - began)
            for route in left_out.values():
                route.refused(grant.reason)
        return placed

    def _count(self, route: Route) -> None:
        home, region = route.job.request.home, route.pool.region
        placements.labels(home, region, str(home != region).lower()).inc()
        if route.overflow:
            self._memory.overflowed(home, region)

    def _publish(self, pool: Pool, made: list[Placed]) -> None:
        """Send the messages, from a thread of the broker's own.

        A broker that does not answer costs the other regions at most PUBLISH_WAIT_S: its pool
        closes, and its thread settles the rest.
        """
        if not made:
            return
        ids = [(attempt.job_id, attempt.fence) for attempt in made]
        sending = self._threads[pool.region].submit(self._publisher.render, pool, ids)
        done, _ = wait([sending], PUBLISH_WAIT_S)
        if done:
            self._settle(pool, made, sending)
            return
        log.warning("broker_slow", pool=str(pool), count=len(made))
        # By then the send has ended, one way or the other.
        self._probes.close(pool, PublishFailed.code, least_s=PUBLISH_TIMEOUT_S)
        sending.add_done_callback(partial(self._settle_late, pool, made))

    def _settle(self, pool: Pool, made: list[Placed], sending: Future[None]) -> None:
        """Undo placements whose messages the broker did not take."""
        try:
            sending.result()
        except PublishFailed as error:
            log.warning("placements_undone", pool=str(pool), count=len(made), error=str(error))
            with self._store.autocommit() as conn:
                for attempt in made:
                    attempts.take_back(
                        conn, attempt.job_id, attempt.fence, attempt.token, error.code
                    )
            self._claimer.give_back(pool, [attempt.token for attempt in made], closing=True)
            self._probes.close(pool, error.code)

    def _settle_late(self, pool: Pool, made: list[Placed], sending: Future[None]) -> None:
        """`_settle` in the broker's thread; the reaper undoes what this cannot."""
        try:
            self._settle(pool, made, sending)
        except DatabaseUnavailable as error:
            log.warning("placements_left_to_reaper", pool=str(pool), error=str(error))
        if sending.exception() is None:
            self._probes.worker_idle(str(pool))  # slow, but it works


def _trace(placed: Placed, pool: Pool, took_s: float) -> None:
    """Note one placement, as a span of its job's trace and in the log."""
    job_id, fence, region = placed.job_id, placed.fence, pool.region
    tracing.note(
        "place",
        tracing.context_of(placed.traceparent),
        {"job.id": str(job_id), "job.fence": fence, "stillmotion.region": region},
        seconds=took_s,
    )
    about = tracing.about(job_id, placed.traceparent, fence=fence, region=region)
    log.info("job_placed", profile=pool.profile, **about)
