"""Bounds the requests that work at once, and those that only wait.

gunicorn has a thread for each. A working request may hold an upload in memory and a database
connection; a waiting one holds neither, so many more of them fit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore


class Gate:
    """Two kinds of slots. Thread-safe."""

    def __init__(self, working: int, waiting: int):
        self._working = BoundedSemaphore(working)
        self._waiting = BoundedSemaphore(waiting) if waiting else None

    def enter(self) -> None:
        """Take a working slot; blocks until one is free."""
        self._working.acquire()

    def leave(self) -> None:
        self._working.release()

    def start_waiting(self) -> bool:
        """Take a waiting slot if one is free."""
        return self._waiting is not None and self._waiting.acquire(blocking=False)

    def stop_waiting(self) -> None:
        assert self._waiting is not None
        self._waiting.release()

    @contextmanager
    def aside(self) -> Iterator[bool]:
        """Give up the working slot while inside. Yields False if there is no waiting slot."""
        if not self.start_waiting():
            yield False
            return
        self.leave()
        try:
            yield True
        finally:
            self.stop_waiting()
            self.enter()
