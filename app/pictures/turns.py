"""Shares a few decoder processes among many keys."""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from app.domain.errors import Transient

# A key that submits from a pool of connections is not refused. What waits is bounded in time by the
# decoders' limit, in memory by the byte budget, and others are served in between.
WAITING, WAITING_PER_KEY = 128, 32


class Turns:
    """A key has at most `per_key` of the places; keys that wait take turns. Thread-safe.

    A key's pictures can then be as slow as the limits allow, and the others' still find a place.
    """

    def __init__(self, places: int):
        self._free = places
        self._per_key = max(1, places - 1)
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._running: Counter[Hashable] = Counter()
        # The key that was served longest ago is first.
        self._waiting: OrderedDict[Hashable, deque[threading.Event]] = OrderedDict()

    @contextmanager
    def turn(self, key: Hashable, timeout_s: float) -> Iterator[None]:
        """Hold a place.

        Raises:
            Transient: pictures_busy, after `timeout_s` or because too many wait already.
        """
        mine = self._ask(key)
        if not mine.wait(timeout_s) and self._give_up(key, mine):
            raise _busy()
        try:
            yield
        finally:
            with self._lock:
                self._free += 1
                self._running[key] -= 1
                if not self._running[key]:
                    del self._running[key]
                self._serve()
                self._ended.notify_all()

    def wait_until_none(self) -> None:
        """Wait until nobody holds a place or waits for one."""
        with self._lock:
            self._ended.wait_for(lambda: not self._running and not self._waiting)

    def _ask(self, key: Hashable) -> threading.Event:
        mine = threading.Event()
        with self._lock:
            queue = self._waiting.setdefault(key, deque())
            queue.append(mine)
            self._serve()
            waiting = sum(map(len, self._waiting.values()))
            too_many = waiting > WAITING or len(queue) > WAITING_PER_KEY
            if too_many and not mine.is_set():
                self._forget(key, mine)
                raise _busy()
        return mine

    def _give_up(self, key: Hashable, mine: threading.Event) -> bool:
        """Stop waiting; False if the place was given at the last moment."""
        with self._lock:
            if mine.is_set():
                return False
            self._forget(key, mine)
            return True

    def _forget(self, key: Hashable, mine: threading.Event) -> None:
        self._waiting[key].remove(mine)
        if not self._waiting[key]:
            del self._waiting[key]

    def _serve(self) -> None:
        """Give the free places to keys that may have one more."""
        while self._free:
            eligible = (key for key in self._waiting if self._running[key] < self._per_key)
            try:
                key = next(eligible)
            except StopIteration:
                return
            first = self._waiting[key][0]
            self._forget(key, first)
            if key in self._waiting:
                self._waiting.move_to_end(key)
            self._free -= 1
            self._running[key] += 1
            first.set()


def _busy() -> Transient:
    return Transient("Too many pictures are being decoded right now.", code="pictures_busy")
