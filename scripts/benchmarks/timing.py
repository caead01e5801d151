"""Time several functions side by side."""

import time
from collections.abc import Callable
from statistics import median


def interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each. They run in turn, so that noise on the machine affects all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, work in runs.items():
            started = time.perf_counter()
            work()
            if turn:  # the first is a warm-up
                seconds[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}
