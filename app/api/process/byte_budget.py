"""Bounds the bytes that requests hold in memory at once, whatever each of them may hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock
from time import monotonic

from app.domain.errors import Transient


class ByteBudget:
    """`total` bytes for all requests of a process. Thread-safe, first come first served."""

    def __init__(self, total: int, timeout_s: float = 10.0):
        self._left = self._total = total
        self._timeout_s = timeout_s
        self._first = Lock()  # held by the request that is next, so that large ones get their turn
        self._freed = Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Take `size` bytes; waits for others to give back theirs.

        Raises Transient: `pictures_busy` if they do not in time.
        """
        self._take(size)
        try:
            yield
        finally:
            with self._freed:
                self._left += size
                self._freed.notify_all()

    def _take(self, size: int) -> None:
        if size > self._total:
            raise ValueError(f"{size} of {self._total} bytes")
        until = monotonic() + self._timeout_s
        if not self._first.acquire(timeout=self._timeout_s):
            raise _busy()
        try:
            with self._freed:
                left_s = until - monotonic()
                if not self._freed.wait_for(lambda: self._left >= size, left_s):
                    raise _busy()
                self._left -= size
        finally:
            self._first.release()


def _busy() -> Transient:
    return Transient("Too many pictures are being decoded right now.", code="pictures_busy")
