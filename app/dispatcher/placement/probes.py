"""When a pool that had no idle worker may be asked again. Belongs to the pool, not to a job."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from app.broker.claims import Answer
from app.domain.routing.pacing import probe_delay
from app.domain.routing.topology import Pool


@dataclass
class Timer:
    refusals: int = 0
    not_before: float = 0.0  # monotonic
    reason: str = ""


class Probes:
    """One dispatcher's timers. `idle` may be called from another thread."""

    def __init__(self) -> None:
        self._timers: dict[Pool, Timer] = {}
        self._news: Counter[str] = Counter()  # of workers that turned idle, by pool

    def closed(self, pool: Pool, now: float) -> str | None:
        """Why the pool is not to be asked now; None: it may be."""
        timer = self._timers.get(pool)
        return timer.reason if timer is not None and now < timer.not_before else None

    def news(self, pool: Pool) -> int:
        """To be read before a pool is asked: an answer is old if this has changed since."""
        return self._news[str(pool)]

    def answered(self, pool: Pool, answer: Answer, news: int, now: float, draw: float) -> None:
        """The pool told how many workers it has left. With none, asking again is a lost try."""
        if answer.granted or answer.left:
            self._timers.pop(pool, None)
        if answer.left == 0 and self.news(pool) == news:
            self.close(pool, answer.reason, now, draw)

    def close(self, pool: Pool, reason: str, now: float, draw: float) -> None:
        """Ask no more for a while, longer with every time in a row."""
        timer = self._timers.setdefault(pool, Timer())
        timer.refusals += 1
        timer.reason = reason
        timer.not_before = now + probe_delay(timer.refusals, draw)

    def idle(self, pool: str) -> None:
        """A worker of this pool turned idle: forget that the pool refused."""
        self._news[pool] += 1
        for known in list(self._timers):
            if str(known) == pool:
                self._timers.pop(known, None)

    def next_at(self, pools: Iterable[Pool]) -> float | None:
        """When the first of these pools may be asked again, if any has a timer."""
        timers = (self._timers.get(pool) for pool in pools)
        return min((timer.not_before for timer in timers if timer is not None), default=None)
