"""Whether a worker reaches what it needs: the database always, storage after a failure."""

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic, sleep

import structlog

from app.domain.errors import DatabaseUnavailable
from app.objects import Objects
from app.store.session import Store
from stillmotion.errors import StillmotionError

log = structlog.get_logger(__name__)

CHECK_EVERY_S = 1.5
HEARD_WITHIN_S = 4.0  # a database that was not heard for longer cannot begin anything in time


class Health:
    """Asks in a thread of its own, which a silent database may block: that is an answer, too.

    A worker that is not `good` is not ready. It would take claims, hold messages and begin nothing,
    or begin and fail one job after another.
    """

    def __init__(self, store: Store, objects: Objects, worker: str):
        self._store = store
        self._objects = objects
        self._probe_key = f"outputs/probe-{worker.partition('@')[0]}"
        self._heard_at = monotonic()
        self._storage_failed = Event()

    @property
    def good(self) -> bool:
        heard = monotonic() - self._heard_at < HEARD_WITHIN_S
        return heard and not self.storage_lost

    @property
    def storage_lost(self) -> bool:
        return self._storage_failed.is_set()

    def storage_failed(self) -> None:
        """An attempt could not read its picture or store its clip."""
        self._storage_failed.set()

    def start(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever `good` may have changed."""

        def run() -> None:
            was = self.good
            while True:
                sleep(CHECK_EVERY_S)
                self._check()
                if self.good != was:
                    was = self.good
                    log.warning("worker_health_changed", good=was)
                    changed()

        Thread(target=run, name="health", daemon=True).start()

    def _check(self) -> None:
        try:
            self._store.check()
        except DatabaseUnavailable:
            return
        self._heard_at = monotonic()
        if self._storage_failed.is_set():
            try:
                # A write: a storage that can only be read is of no use to a worker.
                self._objects.put(self._probe_key, b"probe", "text/plain")
                self._objects.delete(self._probe_key)
            except StillmotionError:
                return
            self._storage_failed.clear()
