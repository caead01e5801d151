"""When a job will begin and be done, as far as that can be known. Seconds."""

from collections.abc import Sequence


def begins_in_s(ahead: int, free_in_s: Sequence[float], service_s: float) -> float | None:
    """Seconds until a job begins that `ahead` others are taken before; None: nobody serves it.

    `free_in_s`: of every worker, when it is free; 0 for an idle one. With one service time for all
    jobs the workers take turns in the order in which they turn free, so no queue has to be played
    through: worker number `ahead mod c` takes the job, after `ahead div c` jobs of its own.
    """
    if not free_in_s:
        return None
    rounds, turn = divmod(ahead, len(free_in_s))
    return sorted(free_in_s)[turn] + rounds * service_s


def left_s(elapsed_s: float, service_s: float, step: int = 0, steps: int = 0) -> float:
    """Seconds that a job needs still, after `elapsed_s` of a service that takes `service_s`.

    A job that is slower than usual shows it by its steps, and is then believed.
    """
    left = max(0.0, service_s - elapsed_s)
    if 0 < step < steps:
        left = max(left, (steps - step) * elapsed_s / step if elapsed_s > service_s else left)
    return left
