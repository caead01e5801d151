"""Writes placements to Postgres, then publishes their messages. Unused claims go back."""

from uuid import UUID

import structlog

from app.broker.publish import Publisher, PublishFailed
from app.dispatcher.placement.claims import Claimer, Grant
from app.dispatcher.placement.memory import Memory
from app.dispatcher.placement.plan import Route
from app.dispatcher.placement.probes import Probes
from app.domain.routing.topology import Pool
from app.store.job import attempts, placing
from app.store.job.placing import Placed
from app.store.session import Store
from app.telemetry import placements

log = structlog.get_logger(__name__)


class Committer:
    def __init__(
        self,
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

    def commit(self, grants: list[Grant]) -> set[UUID]:
        """One short transaction for all grants, then their messages. Returns the placed jobs.

        A claim stays unused if another dispatcher was faster.
        """
        if not grants:
            return set()
        with self._store.begin() as tx:
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
            for route in left_out.values():
                route.refused(grant.reason)
        return placed

    def _count(self, route: Route) -> None:
        home, region = route.job.request.home, route.pool.region
        placements.labels(region, str(home != region).lower()).inc()
        if route.overflow:
            self._memory.overflowed(home, region)

    def _publish(self, pool: Pool, made: list[Placed]) -> None:
        """Send the messages; a broker that does not take them undoes their placements."""
        if not made:
            return
        try:
            self._publisher.render(pool, [(attempt.job_id, attempt.fence) for attempt in made])
        except PublishFailed as error:
            log.warning("placements_undone", pool=str(pool), count=len(made), error=str(error))
            with self._store.once() as tx:
                for attempt in made:
                    attempts.take_back(tx, attempt.job_id, attempt.fence, error.code)
            self._claimer.give_back(pool, [attempt.token for attempt in made])
            self._probes.close(pool, error.code)
