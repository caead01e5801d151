"""Refuses submits while a process has more under way than it can end soon.

Under overload a queue in front of the service only makes every client wait: it ends as many jobs
as without. Little's law gives the length that keeps the wait short, rate * wait. A burst may be
longer for a moment, as in controlled delay (Nichols & Jacobson 2012, "Controlling Queue Delay").
"""

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic

from app import metrics
from app.domain.errors import Overloaded

WAIT_S = 0.2  # of an accepted submit under overload
LEAST = 8  # under way, whatever the rate is
# How long there may be more: as a client that submits an album at once needs it.
BURST_S = 2.0
CALM_S = 10.0  # without anything to refuse, until a burst is allowed again
WINDOW_S = 2.0  # in which the rate is counted
RETRY_AFTER_S = 2.0


class OverloadControl:
    """The submits that are under way, by key. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = monotonic):
        self._clock = clock
        self._lock = Lock()
        self._under_way: Counter[Hashable] = Counter()
        self._ended: deque[float] = deque()  # moments of the last WINDOW_S
        self._long_since: float | None = None
        self._overloaded_until = 0.0

    @contextmanager
    def submit(self, key: Hashable) -> Iterator[None]:
        """Count a submit of `key` while inside.

        Raises Overloaded: too_many_submits, if the key has its share of an overload under way.
        """
        self._enter(key)
        try:
            yield
        finally:
            with self._lock:
                self._ended.append(self._clock())
                self._remove(key)

    @contextmanager
    def paused(self, key: Hashable) -> Iterator[None]:
        """Do not count a submit of `key` while inside: it waits for another server."""
        with self._lock:
            self._remove(key)
        try:
            yield
        finally:
            with self._lock:
                self._under_way[key] += 1

    def _enter(self, key: Hashable) -> None:
        with self._lock:
            now = self._clock()
            allowed = self._allowed(now)
            if self._under_way.total() < allowed:
                self._long_since = None
            elif self._long_since is None:
                self._long_since = now
            elif now - self._long_since > BURST_S:
                self._overloaded_until = now + CALM_S
            share = allowed / len(self._under_way.keys() | {key})
            if now < self._overloaded_until and self._under_way[key] >= max(1.0, share):
                self._overloaded_until = now + CALM_S
                metrics.places_refused.labels("submitting").inc()
                raise Overloaded(
                    "too_many_submits",
                    "More jobs are being submitted right now than can be taken.",
                    status=503,
                    retry_after_s=RETRY_AFTER_S,
                )
            self._under_way[key] += 1

    def _remove(self, key: Hashable) -> None:
        self._under_way[key] -= 1
        if not self._under_way[key]:
            del self._under_way[key]

    def _allowed(self, now: float) -> float:
        """How many may be under way so that each waits for WAIT_S at most."""
        while self._ended and self._ended[0] < now - WINDOW_S:
            self._ended.popleft()
        return max(LEAST, len(self._ended) / WINDOW_S * WAIT_S)
