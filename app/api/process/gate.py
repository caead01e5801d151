"""How many requests work at a time, and how many only wait.

gunicorn has a thread for each of both. Those that work are bounded as before there were waiters:
each may hold an upload in memory and a connection of the database. Those that wait hold neither.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore


class Gate:
    """Two numbers of places. Threads may share it."""

    def __init__(self, working: int, waiting: int):
        self._working = BoundedSemaphore(working)
        self._waiting = BoundedSemaphore(waiting) if waiting else None

    def enter(self) -> None:
        """Take a place among those that work; waits for one."""
        self._working.acquire()

    def leave(self) -> None:
        self._working.release()

    def start_waiting(self) -> bool:
        """Take a place among those that wait, if there is one."""
        return self._waiting is not None and self._waiting.acquire(blocking=False)

    def stop_waiting(self) -> None:
        assert self._waiting is not None
        self._waiting.release()

    @contextmanager
    def aside(self) -> Iterator[bool]:
        """Wait in here without a place among those that work. False: there is no room to wait."""
        if not self.start_waiting():
            yield False
            return
        self.leave()
        try:
            yield True
        finally:
            self.stop_waiting()
            self.enter()
