"""Bounds the requests that work at once, and those that only wait.

gunicorn has a thread for each. A working request may hold a picture in memory and a database
connection; a waiting one holds neither, so many more of them fit. A request waits for a job to
change (an event stream, `Prefer: wait`), or for bytes to arrive (its body, the picture at a URL).
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock

from app import metrics

# A key may hold this many times as many waiting places as it leaves free: alone, four fifths of
# them. So there is always room for another key, and no number to set.
GREED = 4


class Places:
    """A number of places that no owner can take all of. Thread-safe."""

    def __init__(self, kind: str, count: int):
        self._kind = kind
        self._free = count
        self._held: dict[Hashable, int] = {}
        self._lock = Lock()

    def take(self, owner: Hashable) -> bool:
        """Take a place if there is one for this owner."""
        with self._lock:
            held = self._held.get(owner, 0)
            if held >= GREED * self._free:
                metrics.places_refused.labels(self._kind).inc()
                return False
            self._free -= 1
            self._held[owner] = held + 1
            return True

    def give_back(self, owner: Hashable) -> None:
        with self._lock:
            self._free += 1
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]


class Gate:
    """Working places, and two kinds of waiting places. Thread-safe.

    `waiting`: for a job to change. `receiving`: for bytes to arrive.
    """

    def __init__(self, working: int, waiting: int, receiving: int):
        self._working = BoundedSemaphore(working)
        self.waiting = Places("waiting", waiting)
        self.receiving = Places("receiving", receiving)

    def enter(self) -> None:
        """Take a working place; blocks until one is free."""
        self._working.acquire()

    def leave(self) -> None:
        self._working.release()

    @contextmanager
    def aside(self, places: Places, owner: Hashable) -> Iterator[bool]:
        """Give up the working place while inside. Yields False if there is no waiting place."""
        if not places.take(owner):
            yield False
            return
        self.leave()
        try:
            yield True
        finally:
            places.give_back(owner)
            self.enter()
