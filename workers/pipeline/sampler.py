"""From noise to motion: the noise schedule and DPM-Solver++ in log-SNR time.

Noise levels are ratios sigma = noise / signal throughout, so log-SNR is -2 log sigma. The network
is asked at the exact time of each level, as a float: rounding to trained integer steps would tell
it another level than the solver integrates.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# The ends of the range that is integrated. Motion is smooth: its 4,096 vectors say nearly the same,
# so their mean still shows through noise 64 times as strong. Hence the high start; at the low end
# the network's own estimate is better than another step.
SIGMA_MAX = 200.0
SIGMA_MIN = 0.1


def time_of(sigma: Tensor) -> Tensor:
    """The time in [0, 1] of a noise level: signal cos(pi t / 2), noise sin(pi t / 2).

    The squared-cosine schedule (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17) without its
    offset, which only keeps integer steps apart.
    """
    return torch.atan(sigma) * (2 / math.pi)


def log_snr_sigmas(steps: int, high: float = SIGMA_MAX, low: float = SIGMA_MIN) -> Tensor:
    """steps + 1 falling noise levels, uniform in log-SNR, the last one 0. float64."""
    if steps < 1:
        raise ValueError(f"a sampler needs at least one step, not {steps}")
    levels = torch.linspace(math.log(high), math.log(low), steps, dtype=torch.float64).exp()
    return torch.cat([levels, levels.new_zeros(1)])


class DPMSolver:
    """DPM-Solver++(2M): Lu et al. 2022, Algorithm 2, arXiv:2211.01095."""

    def __init__(self, sigmas: Tensor):
        self.sigmas = sigmas  # (N + 1,), falling, last may be 0

    def sample(
        self,
        denoise: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Integrate x, signal + sigma * noise at sigmas[0]; denoise(x, sigma) -> x0.

        on_step(k, x0) is called after each step k = 1..N; what it raises ends the sampling.
        """
        s, previous = self.sigmas, None
        for i in range(len(s) - 1):
            x0 = denoise(x, s[i])
            target = x0
            if previous is not None and s[i + 1] > 0:
                r = (s[i - 1] / s[i]).log() / (s[i] / s[i + 1]).log()
                target = x0 + (x0 - previous) / (2 * r)
            ratio = (s[i + 1] / s[i]).item()
            x = ratio * x + (1 - ratio) * target
            previous = x0
            if on_step is not None:
                on_step(i + 1, x0)
        return x
