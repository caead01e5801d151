"""Estimates of when a job starts and ends, in seconds."""

from collections.abc import Sequence


def begins_in_s(ahead: int, free_in_s: Sequence[float], service_s: float) -> float | None:
    """Seconds until a job with `ahead` jobs in front starts. None: there are no workers.

    `free_in_s`: for each of the c workers, the time until it is free; 0 if it is idle. All jobs
    have one service time, so the workers take turns in the order in which they become free, and the
    queue need not be simulated: worker number `ahead mod c` takes the job after `ahead div c` jobs
    of its own.
    """
    if not free_in_s:
        return None
    rounds, turn = divmod(ahead, len(free_in_s))
    return sorted(free_in_s)[turn] + rounds * service_s


def left_s(elapsed_s: float, service_s: float, step: int = 0, steps: int = 0) -> float:
    """Seconds that a job still needs after `elapsed_s`, if it usually takes `service_s`.

    Once a job takes longer than usual, the estimate comes from its steps.
    """
    left = max(0.0, service_s - elapsed_s)
    if 0 < step < steps:
        left = max(left, (steps - step) * elapsed_s / step if elapsed_s > service_s else left)
    return left
