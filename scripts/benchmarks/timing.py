"""Time several functions side by side."""

import time
from collections.abc import Callable, Collection
from statistics import median


def interleaved(
    runs: dict[str, Callable[[], object]], repeats: int, once: Collection[str] = ()
) -> dict[str, float]:
    """Median seconds of each. They run in turn, so that noise on the machine affects all alike.

    once: names of long runs that are timed a single time and not warmed up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, work in runs.items():
            if name in once and turn != 1:
                continue
            started = time.perf_counter()
            work()
            if turn:  # the first is a warm-up
                seconds[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}
