"""Tells the CPU workers which webhooks are due, and now and then to sweep.

Any number of dispatchers run this. A delivery's lease in Postgres, and for the sweep a key in
Redis, keep them from doing the same thing twice.
"""

from threading import Event
from time import monotonic

import redis
import structlog

from app.broker.publish import Publisher, PublishFailed
from app.domain.errors import DatabaseUnavailable
from app.domain.job.messages import DELIVER, HOUSEKEEPING_QUEUE, SWEEP, WEBHOOKS_QUEUE
from app.store.session import Store
from app.store.webhooks import deliveries
from app.store.webhooks.deliveries import Due

log = structlog.get_logger(__name__)

POLL_S = 1.0  # a kick that got lost, and every retry, waits at most this much longer
GAP_S = 0.02  # between two looks, however often jobs end
CROWDED_S = 0.1  # between two looks while workers have enough to do
# Published and not begun, by one dispatcher. What waits, waits in Postgres: a queue that workers
# cannot empty would otherwise get every waiting delivery again each time the leases run out.
WINDOW = 256

SWEEP_KEY = "stillmotion:sweep"
SWEEP_EVERY_S = 600


class DeliveryLoop:
    """Publishes due deliveries until told to stop. `kick` may be called from any thread."""

    def __init__(
        self, store: Store, publisher: Publisher, client: redis.Redis, *, window: int = WINDOW
    ):
        self._store = store
        self._publisher = publisher
        self._client = client
        self._window = window
        self._kicked = Event()
        self._published: set[Due] = set()
        self._sweep_at = 0.0

    def kick(self) -> None:
        """Look now: a job has ended, or the process is stopping."""
        self._kicked.set()

    def run(self, stopping: Event) -> None:
        """Publish until `stopping` is set; survives a database, broker or Redis that goes away."""
        while not stopping.is_set():
            # Before the look: a kick that comes during it is then not forgotten.
            self._kicked.clear()
            try:
                wait_s = self.publish_due()
                self._ask_for_sweep()
            except DatabaseUnavailable as error:
                log.warning("due webhooks unknown", error=error.detail)
                wait_s = POLL_S
            stopping.wait(GAP_S)
            self._kicked.wait(wait_s)

    def publish_due(self) -> float:
        """Lease and publish what is due and fits. Returns seconds until the next look.

        Raises DatabaseUnavailable.
        """
        with self._store.autocommit() as conn:
            if len(self._published) > self._window // 2:
                self._published = set(deliveries.unbegun(conn, self._published))
            room = self._window - len(self._published)
            due = deliveries.lease_due(conn, limit=room) if room else []
        for n, one in enumerate(due):
            try:
                self._publisher.send(
                    DELIVER,
                    [str(one.delivery_id), one.tries],
                    queue=WEBHOOKS_QUEUE,
                    message_id=f"{one.delivery_id}:{one.tries}",
                )
            except PublishFailed as error:
                log.warning("webhooks not published", count=len(due) - n, error=error.detail)
                with self._store.autocommit() as conn:
                    deliveries.put_back(conn, due[n:])
                return POLL_S
            self._published.add(one)
        return CROWDED_S if len(due) == room else POLL_S

    def _ask_for_sweep(self) -> None:
        """Publish a sweep every SWEEP_EVERY_S, counted over all dispatchers."""
        if monotonic() < self._sweep_at:
            return
        self._sweep_at = monotonic() + SWEEP_EVERY_S
        try:
            # A little shorter than the period, or a dispatcher that asks on the dot would find its
            # own key and skip every second time.
            if self._client.set(SWEEP_KEY, "1", nx=True, ex=SWEEP_EVERY_S - 10):
                self._publisher.send(SWEEP, [], queue=HOUSEKEEPING_QUEUE)
        except (redis.RedisError, PublishFailed) as error:
            log.warning("sweep not asked for", error=str(error))
