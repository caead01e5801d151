"""DPM-Solver++ against exact solutions, and the noise schedule."""

import itertools
import math

import pytest
import torch

from workers.pipeline.sampler import (
    SIGMA_MAX,
    SIGMA_MIN,
    DPMSolver,
    sigmas_for,
    time_of,
)

MEAN, SPREAD = 0.7, 0.5


def exact_denoiser(x, sigma):
    """E[x0 | x] for data N(MEAN, SPREAD^2) under noise of level sigma."""
    return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)


def exact_end(x, high, low):
    """The end of the probability-flow ODE from x, from noise level high to low.

    A path keeps its quantile: (x - MEAN) / sqrt(SPREAD^2 + sigma^2) is constant.
    """
    return MEAN + (x - MEAN) * math.sqrt((SPREAD**2 + low**2) / (SPREAD**2 + high**2))


def gaussian_error(steps: int, order: int, high: float = 200.0) -> float:
    """The solver's largest distance to the exact end, over starts of all likely sizes."""
    low = 0.05
    x = torch.linspace(-1.5 * high, 1.5 * high, 31, dtype=torch.float64)
    # Ends at a level above zero: the jump to zero is a first-order step on purpose.
    sigmas = sigmas_for("log-snr", steps + 1, high, low)[:-1]
    end = DPMSolver(sigmas, order).sample(exact_denoiser, x)
    return (end - exact_end(x, high, low)).abs().max().item()


def slope(steps: list[int], errors: list[float]) -> float:
    """The order of convergence: minus the least-squares slope of log error over log steps."""
    x = torch.tensor(steps, dtype=torch.float64).log()
    y = torch.tensor(errors, dtype=torch.float64).log()
    return -(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()).item()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_error_falls_with_the_order_of_the_solver(order):
    """Halving the step divides the error by 2, 4 and 8.

    The first steps have a lower order, because they have no past predictions. At noise this strong
    that costs nothing visible, since the prediction hardly changes.
    """
    steps = [160, 320, 640, 1280]
    measured = slope(steps, [gaussian_error(n, order, high=2000.0) for n in steps])
    assert measured == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("steps", [15, 25, 50])
def test_a_higher_order_pays_at_the_steps_that_are_used(steps):
    errors = [gaussian_error(steps, order) for order in (1, 2, 3)]
    assert errors[0] > 4 * errors[1]
    assert errors[1] > 1.1 * errors[2]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_schedule_that_ends_at_zero_ends_on_the_data(order):
    """The last step is the prediction itself, which leaves SPREAD^2 / (SPREAD^2 + low^2)."""
    high, low, steps = 200.0, 1e-3, 200
    x = torch.linspace(-300, 300, 31, dtype=torch.float64)
    seen = []
    end = DPMSolver(sigmas_for("log-snr", steps, high, low), order).sample(
        exact_denoiser, x, lambda k, x0: seen.append(x0)
    )
    assert torch.equal(end, seen[-1])
    tolerance = {1: 2e-2, 2: 5e-4, 3: 1e-5}[order]
    assert (end - exact_end(x, high, 0)).abs().max() < tolerance


def test_order_one_is_ddim():
    """Song et al. 2020, eq. 12 without fresh noise: keep the noise, lower its level."""
    sigmas = sigmas_for("log-snr", 6, 20, 0.1)
    x = y = torch.linspace(-30, 30, 7, dtype=torch.float64)
    for now, then in itertools.pairwise(sigmas):
        x0 = exact_denoiser(y, now)
        y = x0 + (y - x0) / now * then
    assert torch.allclose(DPMSolver(sigmas, order=1).sample(exact_denoiser, x), y, atol=1e-12)


def test_uneven_steps_keep_the_third_order():
    """Past predictions at uneven distances: Karras levels, and the error still falls by 8."""
    high, low = 50.0, 0.05
    x = torch.linspace(-75, 75, 31, dtype=torch.float64)
    steps, errors = [40, 80, 160], []
    for n in steps:
        end = DPMSolver(sigmas_for("karras", n, high, low)[:-1], 3).sample(exact_denoiser, x)
        errors.append((end - exact_end(x, high, low)).abs().max().item())
    assert slope(steps, errors) > 2.7


@pytest.mark.parametrize("order", [1, 2, 3])
def test_float32_samples_stay_close_to_the_exact_path(order):
    x = torch.linspace(-1.5, 1.5, 31) * SIGMA_MAX
    end = DPMSolver(sigmas_for("log-snr", 100), order).sample(
        lambda x, sigma: exact_denoiser(x, sigma.item()), x
    )
    assert end.dtype == torch.float32
    assert (end - exact_end(x, SIGMA_MAX, 0)).abs().max() < 0.05


def test_a_known_x0_is_reached_exactly():
    """With a constant prediction the ODE is linear: any number of steps lands on it."""
    x0 = torch.tensor([1.5, -2.0], dtype=torch.float64)
    noise = torch.tensor([0.3, -0.9], dtype=torch.float64)
    for steps in (1, 2, 15):
        sigmas = sigmas_for("log-snr", steps)
        end = DPMSolver(sigmas).sample(lambda x, sigma: x0, x0 + sigmas[0] * noise)
        assert torch.allclose(end, x0, atol=1e-12)


def test_gaussian_samples_have_the_variance_of_the_data():
    """15 steps from pure noise with the exact prediction reach the spread within 3 %."""
    s = 0.8
    sigmas = sigmas_for("log-snr", 15)
    noise = torch.randn(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    end = DPMSolver(sigmas).sample(
        lambda x, sigma: s**2 * x / (s**2 + sigma**2), noise * (s**2 + sigmas[0] ** 2).sqrt()
    )
    assert end.std().item() == pytest.approx(s, rel=0.03)


def test_levels_are_uniform_in_log_snr_and_end_at_zero():
    sigmas = sigmas_for("log-snr", 15)
    assert len(sigmas) == 16 and sigmas[-1] == 0
    assert sigmas[0].item() == pytest.approx(SIGMA_MAX)
    assert sigmas[-2].item() == pytest.approx(SIGMA_MIN)
    gaps = sigmas[:-1].log().diff()
    assert torch.allclose(gaps, gaps[0].expand_as(gaps))


def test_times_are_continuous_and_distinct():
    times = time_of(sigmas_for("log-snr", 50))
    assert (times.diff() < 0).all()
    assert times.min() >= 0 and times.max() < 1
    angle = times * math.pi / 2
    assert torch.allclose(angle.tan(), sigmas_for("log-snr", 50))


def test_every_step_is_reported_and_an_exception_ends_the_sampling():
    seen = []

    def stop_at_three(step, x0):
        seen.append(step)
        if step == 3:
            raise KeyboardInterrupt

    calls = []
    with pytest.raises(KeyboardInterrupt):
        DPMSolver(sigmas_for("log-snr", 8)).sample(
            lambda x, sigma: calls.append(1) or x, torch.zeros(2), stop_at_three
        )
    assert seen == [1, 2, 3]
    assert len(calls) == 3


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="at least one step"):
        sigmas_for("log-snr", 0)


@pytest.mark.parametrize("kind", ["log-snr", "karras", "time"])
def test_every_schedule_falls_from_high_to_low_and_then_to_zero(kind):
    sigmas = sigmas_for(kind, 9, 50.0, 0.02)
    assert len(sigmas) == 10 and (sigmas.diff() < 0).all()
    assert sigmas[0].item() == pytest.approx(50)
    assert sigmas[-2].item() == pytest.approx(0.02)
    assert sigmas[-1] == 0


def test_each_schedule_is_uniform_in_its_own_measure():
    for kind, measure in {
        "log-snr": torch.log,
        "karras": lambda s: s ** (1 / 7),
        "time": time_of,
    }.items():
        gaps = measure(sigmas_for(kind, 9, 50.0, 0.02)[:-1]).diff()
        assert torch.allclose(gaps, gaps[0].expand_as(gaps))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("linear", 4), "unknown schedule 'linear'"),
        (("karras", 0), "at least one step"),
        (("time", 4, 1.0, 2.0), "from 1.0 to 2.0"),
        (("time", 4, 1.0, 0.0), "both above 0"),
    ],
)
def test_invalid_schedules_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        sigmas_for(*arguments)


@pytest.mark.parametrize(
    ("levels", "order", "says"),
    [
        ([2.0, 1.0], 4, "not 4"),
        ([2.0, 1.0], 0, "not 0"),
        ([1.0, 2.0], 2, "falling"),
        ([1.0], 2, "at least two"),
        ([1.0, -1.0], 2, "negative"),
    ],
)
def test_an_invalid_solver_is_refused(levels, order, says):
    with pytest.raises(ValueError, match=says):
        DPMSolver(torch.tensor(levels), order)
