"""DPM-Solver++ against exact solutions, and the noise schedule."""

import itertools
import math

import pytest
import torch

from workers.pipeline.sampler import SIGMA_MAX, SIGMA_MIN, DPMSolver, log_snr_sigmas, time_of


def gaussian_error(steps: int) -> float:
    """Distance to the exact end of the probability-flow ODE for Gaussian data N(m, s^2).

    There E[x0 | x] = (s^2 x + sigma^2 m) / (s^2 + sigma^2), and a path keeps its quantile:
    (x - m) / sqrt(s^2 + sigma^2) is constant.
    """
    m, s, high, low = 0.7, 0.5, 20.0, 0.05
    x = torch.linspace(-30, 30, 61, dtype=torch.float64)
    exact = m + (x - m) * math.sqrt((s**2 + low**2) / (s**2 + high**2))
    # Ends at a level above zero: the jump to zero is a first-order step on purpose.
    sigmas = log_snr_sigmas(steps, high, low)[:-1]

    def denoise(x, sigma):
        return (s**2 * x + sigma**2 * m) / (s**2 + sigma**2)

    return (DPMSolver(sigmas).sample(denoise, x) - exact).abs().max().item()


def test_halving_the_step_quarters_the_error():
    errors = [gaussian_error(n + 1) for n in (20, 40, 80, 160)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders[-1] == pytest.approx(2, abs=0.15)
    assert min(orders) > 1.6


def test_a_known_x0_is_reached_exactly():
    """With a constant prediction the ODE is linear: any number of steps lands on it."""
    x0 = torch.tensor([1.5, -2.0], dtype=torch.float64)
    noise = torch.tensor([0.3, -0.9], dtype=torch.float64)
    for steps in (1, 2, 15):
        sigmas = log_snr_sigmas(steps)
        end = DPMSolver(sigmas).sample(lambda x, sigma: x0, x0 + sigmas[0] * noise)
        assert torch.allclose(end, x0, atol=1e-12)


def test_gaussian_samples_have_the_variance_of_the_data():
    """15 steps from pure noise, prediction exact: the spread comes out within 3 %."""
    s = 0.8
    sigmas = log_snr_sigmas(15)
    noise = torch.randn(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    end = DPMSolver(sigmas).sample(
        lambda x, sigma: s**2 * x / (s**2 + sigma**2), noise * (s**2 + sigmas[0] ** 2).sqrt()
    )
    assert end.std().item() == pytest.approx(s, rel=0.03)


def test_levels_are_uniform_in_log_snr_and_end_at_zero():
    sigmas = log_snr_sigmas(15)
    assert len(sigmas) == 16 and sigmas[-1] == 0
    assert sigmas[0].item() == pytest.approx(SIGMA_MAX)
    assert sigmas[-2].item() == pytest.approx(SIGMA_MIN)
    gaps = sigmas[:-1].log().diff()
    assert torch.allclose(gaps, gaps[0].expand_as(gaps))


def test_times_are_continuous_and_distinct():
    times = time_of(log_snr_sigmas(50))
    assert (times.diff() < 0).all()
    assert times.min() >= 0 and times.max() < 1
    angle = times * math.pi / 2
    assert torch.allclose(angle.tan(), log_snr_sigmas(50))


def test_every_step_is_reported_and_an_exception_ends_the_sampling():
    seen = []

    def stop_at_three(step, x0):
        seen.append(step)
        if step == 3:
            raise KeyboardInterrupt

    calls = []
    with pytest.raises(KeyboardInterrupt):
        DPMSolver(log_snr_sigmas(8)).sample(
            lambda x, sigma: calls.append(1) or x, torch.zeros(2), stop_at_three
        )
    assert seen == [1, 2, 3]
    assert len(calls) == 3


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="at least one step"):
        log_snr_sigmas(0)
