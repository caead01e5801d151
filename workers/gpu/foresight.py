"""Foresight: when a render will end, and how long before that the next job must be asked for.

Pure: times are seconds of any monotonic clock, passed in. A guess that is late leaves the GPU idle
for a moment; one that is early makes a job wait here while another worker may become free. So an
estimate that scatters is taken at its late end.
"""

from dataclasses import dataclass
from math import ceil, inf, sqrt

LEAD_MOST_S = 0.5
LEAD_AT_FIRST_S = 0.1  # until a hand-over has been measured
GAIN, SPREAD_GAIN = 1 / 8, 1 / 4  # of smoothing, as for the round trips of TCP (RFC 6298)
ABREAST_MOST = 2  # attempts that prepare at once
SPREADS = 2.0  # mean deviations above the mean that an estimate allows for


@dataclass
class Smoothed:
    """A running mean and a running mean deviation; None before the first sample."""

    mean: float | None = None
    spread: float = 0.0

    def add(self, sample: float) -> None:
        if self.mean is None:
            self.mean = sample
            return
        self.spread += SPREAD_GAIN * (abs(sample - self.mean) - self.spread)
        self.mean += GAIN * (sample - self.mean)

    @property
    def high(self) -> float:
        """What a sample seldom exceeds; 0 before the first."""
        return (self.mean or 0.0) + SPREADS * self.spread


class Foresight:
    """What one worker has learned from its own renders and hand-overs."""

    def __init__(self) -> None:
        self._step = Smoothed()  # seconds of a render's mean step
        self._scatter = Smoothed()  # of steps about their render's mean, relative to it
        self._tail = Smoothed()  # seconds between the last step and the end
        self._render = Smoothed()  # seconds of a whole render
        self._hand_over = Smoothed()

    @property
    def lead_s(self) -> float:
        """How long before the GPU is free the next job must be asked for."""
        if self._hand_over.mean is None:
            return LEAD_AT_FIRST_S
        return min(LEAD_MOST_S, self._hand_over.high)

    @property
    def abreast(self) -> int:
        """How many attempts must prepare at once for one to be ready whenever a render ends.

        More than one where a hand-over, which is mostly waiting for storage, outlasts a render.
        """
        if not self._hand_over.mean or not self._render.mean:
            return 1
        return min(ABREAST_MOST, ceil(self._hand_over.mean / self._render.mean))

    def handed_over(self, took_s: float) -> None:
        """A waiting job was ready to render `took_s` after it could be asked for."""
        self._hand_over.add(min(took_s, LEAD_MOST_S))

    def full_s(self, steps: int) -> float:
        """Seconds of a render that has not begun; infinite before the first."""
        if self._tail.mean is None:
            return inf
        return self._steps_s(steps, self._step.high) + self._tail.high

    def begin(self, steps: int, now: float) -> "Render":
        return Render(self, steps, now)

    def learn(self, steps_s: list[float], tail_s: float) -> None:
        """A render ended: the seconds of its steps, and those after the last."""
        self._tail.add(tail_s)
        self._render.add(sum(steps_s) + tail_s)
        if not steps_s:
            return
        mean = sum(steps_s) / len(steps_s)
        self._step.add(mean)
        if mean > 0:
            for step_s in steps_s:
                self._scatter.add(abs(step_s - mean) / mean)

    def remaining_s(self, steps: int, step_s: float | None, spent_s: float) -> float:
        """Seconds until the end, `spent_s` into the next of `steps` steps (0: after the last)."""
        if self._tail.mean is None:
            return inf
        if steps == 0:
            return _left(self._tail.high, spent_s)
        known = self._step.high if step_s is None else step_s
        # Nobody knows the end of a step better than steps scatter.
        scatter_s = known * (self._scatter.mean or 0.0)
        current = max(scatter_s, _left(self._steps_s(1, known), spent_s))
        return current + self._steps_s(steps - 1, known) + self._tail.high

    def _steps_s(self, steps: int, step_s: float) -> float:
        """Late end of the time of `steps` steps: their deviations partly cancel."""
        return step_s * (steps + SPREADS * (self._scatter.mean or 0.0) * sqrt(steps))


class Render:
    """The render that is under way."""

    def __init__(self, foresight: Foresight, steps: int, now: float):
        self._foresight = foresight
        self._steps = steps
        self._at = now  # of the last step, or of the start
        self._done: list[float] = []

    def step(self, now: float) -> None:
        self._done.append(now - self._at)
        self._at = now

    def remaining_s(self, now: float) -> float:
        """Seconds until the GPU is free; infinite if nothing is known."""
        done = self._done
        step_s = sum(done) / len(done) if done else None
        left = max(0, self._steps - len(done))
        return self._foresight.remaining_s(left, step_s, now - self._at)

    def ended(self, now: float) -> None:
        """Learn from this render, which was not cut short."""
        self._foresight.learn(self._done, now - self._at)


def _left(expected_s: float, spent_s: float) -> float:
    """What is left of something that should have taken `expected_s`.

    What is overdue is assumed to last as long again as it is late: a step that hangs never seems
    to be about to end.
    """
    return abs(expected_s - spent_s)
