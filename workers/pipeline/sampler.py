"""From noise to motion: the noise schedule and DPM-Solver++ in log-SNR time.

Noise levels are always ratios sigma = noise / signal, so log-SNR is -2 log sigma. The network gets
the exact time of each level as a float: rounding to integer steps would give it another level than
the solver integrates.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# The ends of the integrated range. Noise has the spectrum of motion (noise.py), so a ratio of 40
# hides nearly everything.
SIGMA_MAX = 40.0
SIGMA_MIN = 0.05
TEACHER_STEPS = 32  # of the teacher that a student is distilled from


def time_of(sigma: Tensor) -> Tensor:
    """The time in [0, 1] of a noise level: signal cos(pi t / 2), noise sin(pi t / 2).

    The squared-cosine schedule (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17) without its
    offset, which only keeps integer steps apart.
    """
    return torch.atan(sigma) * (2 / math.pi)


def sigmas_for(kind: str, steps: int, high: float = SIGMA_MAX, low: float = SIGMA_MIN) -> Tensor:
    """steps + 1 falling noise levels: `steps` from high to low, then 0. float64.

    "log-snr": uniform in log sigma; equal steps of the solver's own time (Lu et al. 2022).
    "karras": uniform in sigma^(1/7), denser at the low end (Karras et al. 2022, arXiv:2206.00364,
    eq. 5). "time": uniform in the network's time, denser still at both ends of the path.
    "distilled": evenly chosen from the teacher's levels, the only ones that a student knows.

    The best choice depends on the model and the number of steps; measure it.
    Raises ValueError for an unknown kind, for no steps, and unless high > low > 0.
    """
    if steps < 1:
        raise ValueError(f"a sampler needs at least one step, not {steps}")
    if not 0 < low < high:
        raise ValueError(f"noise falls from high to low, both above 0, not from {high} to {low}")
    ends = torch.tensor([high, low], dtype=torch.float64)
    if kind == "log-snr":
        levels = _linspace(ends.log(), steps).exp()
    elif kind == "karras":
        levels = _linspace(ends ** (1 / 7), steps) ** 7
    elif kind == "time":
        levels = torch.tan(_linspace(time_of(ends), steps) * (math.pi / 2))
    elif kind == "distilled":
        if steps > TEACHER_STEPS:
            raise ValueError(f"a student takes at most its teacher's {TEACHER_STEPS} steps")
        chosen = [round(i * TEACHER_STEPS / steps) for i in range(steps)]
        levels = _linspace(ends.log(), TEACHER_STEPS).exp()[chosen]
    else:
        raise ValueError(f"unknown schedule {kind!r}; known: log-snr, karras, time, distilled")
    return torch.cat([levels, levels.new_zeros(1)])


def _linspace(ends: Tensor, steps: int) -> Tensor:
    first, last = ends.tolist()
    return torch.linspace(first, last, steps, dtype=torch.float64)


class DPMSolver:
    """DPM-Solver++ multistep: Lu et al. 2022, arXiv:2211.01095.

    In the time u = -log sigma the path obeys dx/du = x0(x, u) - x, linear but for the prediction
    x0. The linear part is solved exactly; x0 is extrapolated over the step by a polynomial through
    the last `order` predictions. Order 1 is DDIM, order 2 the paper's Algorithm 2.

    Order 3 integrates the parabola exactly. The coefficients in circulation take half of its
    second difference and with that converge with order 2 only (measured).
    """

    def __init__(self, sigmas: Tensor, order: int = 2):
        """sigmas (N + 1,) falling noise / signal, the last may be 0; order 1, 2 or 3."""
        if order not in (1, 2, 3):
            raise ValueError(f"the solver has orders 1, 2 and 3, not {order}")
        if sigmas.ndim != 1 or len(sigmas) < 2 or not bool((sigmas.diff() < 0).all()):
            raise ValueError("noise levels must be a falling row of at least two")
        if sigmas[-1] < 0:
            raise ValueError("noise levels must not be negative")
        self.sigmas = sigmas
        self.order = order

    def sample(
        self,
        denoise: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Integrate x, signal + sigma * noise at sigmas[0]; denoise(x, sigma) -> x0.

        on_step(k, x0) is called after each step k = 1..N; what it raises ends the sampling.
        """
        s = self.sigmas
        times = (-s.double().log()).tolist()  # infinite at sigma 0
        past: list[Tensor] = []  # predictions, the latest first
        for i in range(len(s) - 1):
            x0 = denoise(x, s[i])
            past = [x0, *past[: self.order - 1]]
            last = s[i + 1] == 0  # an infinite step: nothing can be extrapolated over it
            x = x0 if last else self._step(x, past, times[i + 1], times[i::-1])
            if on_step is not None:
                on_step(i + 1, x0)
        return x

    @staticmethod
    def _step(x: Tensor, past: list[Tensor], end: float, times: list[float]) -> Tensor:
        """From times[0] to `end`; past[k] is the prediction at times[k]. Order: len(past)."""
        h = end - times[0]
        decay = math.exp(-h)
        # Integrals of exp(-(h - t)) t^k over the step, for k = 0, 1, 2.
        m0 = 1 - decay
        m1 = h - m0
        m2 = h * h - 2 * m1
        x = decay * x + m0 * past[0]
        if len(past) == 1:
            return x
        slope = (past[0] - past[1]) / (times[0] - times[1])
        if len(past) == 2:
            # m0 h / 2 for m1, as in the paper: half of the error of m1 itself on Gaussian data.
            return x + (m0 * h / 2) * slope
        older = (past[1] - past[2]) / (times[1] - times[2])
        second_difference = (slope - older) / (times[0] - times[2])
        # Newton's form: past[0] + slope t + second_difference t (t + times[0] - times[1]).
        return x + m1 * slope + (m2 + m1 * (times[0] - times[1])) * second_difference
