"""When a pool that had no idle worker may be asked again. Timers belong to pools, not to jobs."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.broker.claims import ClaimResult
from app.domain.routing.pacing import probe_delay
from app.domain.routing.topology import Pool


@dataclass
class Timer:
    refusals: int = 0
    not_before: float = 0.0  # monotonic
    reason: str = ""


class Probes:
    """One dispatcher's timers. `worker_idle` may be called from another thread."""

    def __init__(self, *, clock: Callable[[], float], draw: Callable[[], float]) -> None:
        self._clock = clock
        self._draw = draw
        self._timers: dict[Pool, Timer] = {}
        self._news: Counter[str] = Counter()  # of workers that became idle, by pool

    def closed(self, pool: Pool) -> str | None:
        """Why the pool must not be asked now; None if it may be."""
        timer = self._timers.get(pool)
        return timer.reason if timer is not None and self._clock() < timer.not_before else None

    def open_regions(self, pools: Iterable[Pool]) -> list[str]:
        """The regions of those pools that may be asked now."""
        return [pool.region for pool in pools if self.closed(pool) is None]

    def news(self, pool: Pool) -> int:
        """Read this before asking a pool: if it has changed since, the result is out of date."""
        return self._news[str(pool)]

    def record(self, pool: Pool, result: ClaimResult, news: int) -> None:
        """Note how many idle workers a pool has left. At none, asking again would be wasted."""
        if result.granted or result.left:
            self._timers.pop(pool, None)
        if result.left == 0 and self.news(pool) == news:
            self.close(pool, result.reason)

    def close(self, pool: Pool, reason: str, *, least_s: float = 0.0) -> None:
        """Stop asking for a while, at least `least_s`, and longer with each refusal in a row."""
        timer = self._timers.setdefault(pool, Timer())
        timer.refusals += 1
        timer.reason = reason
        timer.not_before = self._clock() + least_s + probe_delay(timer.refusals, self._draw())

    def may_close_s(self, pool: Pool) -> float:
        """The longest for which the pool would close if it had no idle worker now."""
        timer = self._timers.get(pool)
        return probe_delay(1 if timer is None else timer.refusals + 1, 1.0)

    def worker_idle(self, pool: str) -> None:
        """A worker of this pool became idle: forget that the pool refused."""
        self._news[pool] += 1
        for known in list(self._timers):
            if str(known) == pool:
                self._timers.pop(known, None)

    def next_at(self, pools: Iterable[Pool], since: float) -> float | None:
        """When the first of these pools that was closed at `since` may be asked again.

        A pool that was open and that no job could ask would else be worth a look for ever.
        """
        timers = (self._timers.get(pool) for pool in pools)
        return min(
            (timer.not_before for timer in timers if timer and timer.not_before > since),
            default=None,
        )
