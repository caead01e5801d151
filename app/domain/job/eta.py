"""Estimates of when a job starts and ends, in seconds."""

from collections.abc import Sequence
from heapq import heapify, heapreplace
from math import ceil


def begins_in_s(ahead: int, free_in_s: Sequence[float], service_s: float) -> float | None:
    """Seconds until a job with `ahead` jobs in front starts. None: there are no workers.

    `free_in_s`: for each of the c workers, the time until it is free; 0 if it is idle. The jobs in
    front take `service_s` each, and each goes to the first free worker. Whole rounds of them are
    skipped at once, so the work depends on c and not on the length of the queue.
    """
    if not free_in_s:
        return None
    if service_s <= 0.0:
        return min(free_in_s)
    # So little work that at least one job for each worker is left to play.
    level = _level_s(sorted(free_in_s), max(0, ahead - len(free_in_s)) * service_s)
    turns = []
    left = ahead
    for free_s in free_in_s:
        taken = max(0, ceil((level - free_s) / service_s))
        left -= taken
        turns.append(free_s + taken * service_s)
    heapify(turns)
    for _ in range(left):
        heapreplace(turns, turns[0] + service_s)
    return turns[0]


def _level_s(free_in_s: Sequence[float], work_s: float) -> float:
    """The time by which workers, sorted by when they become free, can have done `work_s`."""
    total = 0.0
    for workers, free_s in enumerate(free_in_s):
        if workers * free_s - total >= work_s:
            return (work_s + total) / max(1, workers)
        total += free_s
    return (work_s + total) / len(free_in_s)


def left_s(elapsed_s: float, service_s: float, step: int = 0, steps: int = 0) -> float:
    """Seconds that a job still needs after `elapsed_s`, if such a job usually takes `service_s`.

    Its own steps count for more the further it has come, and alone once it takes longer than usual.
    Work after the last step shows in `service_s` only.
    """
    left = max(0.0, service_s - elapsed_s)
    if not 0 < step < steps:
        return left
    by_steps = (steps - step) * elapsed_s / step
    if by_steps <= left:
        return left
    trust = step / steps if left > 0.0 else 1.0
    return (1.0 - trust) * left + trust * by_steps
