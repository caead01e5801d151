"""Publishes due webhook deliveries to the CPU workers, and now and then a sweep.

Any number of dispatchers run this. A delivery's lease in Postgres keeps two of them from publishing
it twice; for the sweep a key in Redis does.
"""

from threading import Event
from time import monotonic

import redis
import structlog

from app.broker import keys
from app.broker.publish import Publisher, PublishFailed
from app.domain.errors import DatabaseUnavailable
from app.domain.job.messages import DELIVER, HOUSEKEEPING_QUEUE, SWEEP, WEBHOOKS_QUEUE
from app.domain.webhooks import OWNER_LIMIT
from app.store.session import Store
from app.store.webhooks import deliveries
from app.store.webhooks.deliveries import Due

log = structlog.get_logger(__name__)

POLL_S = 1.0  # the most that a lost kick, or a retry, waits longer
GAP_S = 0.02  # between looks, however often jobs end
CROWDED_S = 0.1  # between looks while workers have enough to do
# Deliveries that one dispatcher has published and no worker has begun. The rest wait in Postgres: a
# queue that workers cannot empty would else get all of them again each time the leases run out.
WINDOW = 256

SWEEP_EVERY_S = 600


class DeliveryLoop:
    """Publishes due deliveries until told to stop. `kick` may be called from any thread."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        client: redis.Redis,
        *,
        window: int = WINDOW,
        per_owner: int = OWNER_LIMIT,
    ):
        self._store = store
        self._publisher = publisher
        self._client = client
        self._window = window
        self._per_owner = per_owner
        self._kicked = Event()
        self._published: set[Due] = set()
        self._sweep_at = 0.0

    def kick(self) -> None:
        """Look now: a job has ended, or the process is stopping."""
        self._kicked.set()

    def run(self, stopping: Event) -> None:
        """Publish until `stopping` is set; survives a database, broker or Redis that goes away."""
        while not stopping.is_set():
            # Clear before looking, so that a kick during the look is not lost.
            self._kicked.clear()
            try:
                wait_s = self.publish_due()
                self._ask_for_sweep()
            except DatabaseUnavailable as error:
                log.warning("deliveries_paused", error=error.detail)
                wait_s = POLL_S
            stopping.wait(GAP_S)
            self._kicked.wait(wait_s)

    def publish_due(self) -> float:
        """Lease and publish the due deliveries that fit. Returns seconds until the next look.

        Raises DatabaseUnavailable.
        """
        with self._store.autocommit() as conn:
            if len(self._published) > self._window // 2:
                self._published = set(deliveries.unbegun(conn, self._published))
            room = self._window - len(self._published)
            due = []
            if room:
                due = deliveries.lease_due(conn, limit=room, per_owner=self._per_owner)
        for n, one in enumerate(due):
            try:
                self._publisher.send(
                    DELIVER,
                    [str(one.delivery_id), one.tries],
                    queue=WEBHOOKS_QUEUE,
                    message_id=f"{one.delivery_id}:{one.tries}",
                )
            except PublishFailed as error:
                log.warning("deliveries_not_published", count=len(due) - n, error=error.detail)
                with self._store.autocommit() as conn:
                    deliveries.put_back(conn, due[n:])
                return POLL_S
            self._published.add(one)
        return CROWDED_S if len(due) == room else POLL_S

    def _ask_for_sweep(self) -> None:
        """Publish a sweep every SWEEP_EVERY_S across all dispatchers."""
        if monotonic() < self._sweep_at:
            return
        self._sweep_at = monotonic() + SWEEP_EVERY_S
        try:
            # A little shorter than the period, or a punctual dispatcher would find its own key and
            # skip every second sweep.
            if self._client.set(keys.SWEEP, "1", nx=True, ex=SWEEP_EVERY_S - 10):
                self._publisher.send(SWEEP, [], queue=HOUSEKEEPING_QUEUE)
        except (redis.RedisError, PublishFailed) as error:
            log.warning("sweep_not_requested", error=str(error))
