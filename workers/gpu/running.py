"""The attempts that run in this process, and how to give them back before it ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from time import monotonic

from workers.gpu.stages import Place

PATIENCE_S = 3.0  # for all of them; the reaper finds the rest


class Running:
    """By place, what gives an attempt back. Each has a thread of its own, so no lock is needed."""

    def __init__(self) -> None:
        self._give_back: dict[Place, Callable[[], None]] = {}

    @contextmanager
    def add(self, place: Place, give_back: Callable[[], None]) -> Iterator[None]:
        """The attempt at `place` runs until the block ends."""
        self._give_back[place] = give_back
        try:
            yield
        finally:
            del self._give_back[place]

    def hand_back_others(self, place: Place) -> None:
        """Give back all attempts but one, which is the reason that the process must end."""
        others = [give for at, give in list(self._give_back.items()) if at is not place]
        threads = [Thread(target=give, daemon=True) for give in others]
        until = monotonic() + PATIENCE_S
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until - monotonic()))
