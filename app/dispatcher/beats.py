"""Whether every thread of a dispatcher still comes round."""

from threading import Event
from time import monotonic

GRACE_S = 120.0  # for one round; every statement and call in it has a limit of its own


class Beats:
    """Hands each loop a `stopping` event of its own and notes when the loop looks at it.

    A loop that has not looked for GRACE_S longer than it meant to wait is stuck.
    """

    def __init__(self, stopping: Event, grace_s: float = GRACE_S):
        self._stopping = stopping
        self._grace_s = grace_s
        self._loops: dict[str, _Watched] = {}

    def of(self, name: str) -> Event:
        """The event for the loop `name`."""
        self._loops[name] = _Watched(self._stopping, self._grace_s)
        return self._loops[name]

    def alive(self) -> bool:
        return not self.stuck()

    def stuck(self) -> list[str]:
        """The names of the loops that do not come round."""
        now = monotonic()
        return [name for name, loop in self._loops.items() if now > loop.due]


class _Watched(Event):
    """An event that belongs to one loop and follows another."""

    def __init__(self, stopping: Event, grace_s: float):
        super().__init__()
        self._stopping = stopping
        self._grace_s = grace_s
        self.due = monotonic() + grace_s

    def is_set(self) -> bool:
        self.due = monotonic() + self._grace_s
        return self._stopping.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        self.due = monotonic() + (timeout or 0.0) + self._grace_s
        done = self._stopping.wait(timeout)
        self.due = monotonic() + self._grace_s
        return done

    def set(self) -> None:
        self._stopping.set()
