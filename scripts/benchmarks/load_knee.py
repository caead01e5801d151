"""The search for the knee: the highest rate that passes, on a machine that sometimes stalls.

One stall of a disk fails a step at any rate. So a rate has failed only if it fails twice, and the
climb ends only at the second such rate in a row.
"""

from collections.abc import Callable

from scripts.benchmarks.load_step import Step

FIRST_RATE, MOST_RATE = 5.0, 2000.0  # jobs/s
TRIES = 2


def climb(hold: Callable[[float], Step], factor: float, refinements: int) -> list[Step]:
    """Every step that was held, by rate.

    Rates grow by `factor` until two in a row fail. Then the gap between the last that passed and
    the first that failed above it is halved `refinements` times.
    """
    steps: list[Step] = []

    def passes(rate: float) -> bool:
        for _ in range(TRIES):
            steps.append(hold(rate))
            if steps[-1].passes:
                return True
        return False

    low: float | None = None  # passed
    high: float | None = None  # failed, and no higher rate passed
    rate = FIRST_RATE
    while rate <= MOST_RATE:
        if passes(rate):
            low, high = rate, None
        elif high is None:
            high = rate
        else:
            break
        rate *= factor
    if low is not None and high is not None:
        for _ in range(refinements):
            middle = (low * high) ** 0.5
            if passes(middle):
                low = middle
            else:
                high = middle
    return sorted(steps, key=lambda step: step.rate)


def knee(steps: list[Step]) -> Step | None:
    """The highest rate that passed; what failed below it was a stall."""
    return max((step for step in steps if step.passes), key=lambda step: step.rate, default=None)
