"""What is learned from jobs that ended about those that have not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.job.service_time import Sample, learn


def samples(*pairs, region="here"):
    return [Sample(region, cost, seconds) for cost, seconds in pairs]


def test_nothing_is_known_before_the_first_job_has_ended():
    assert learn([]) is None


def test_after_jobs_of_one_size_half_of_their_time_is_taken_to_be_fixed():
    times = learn(samples(*[(1.0, 2.0)] * 20))
    assert times.of(1.0, "here") == pytest.approx(2.0)
    assert times.of(8.0, "here") == pytest.approx(1.0 + 8.0)


def test_one_job_of_another_size_halves_the_guess():
    """Figures of the shipped model: 4.5 s for the default clip, 11.7 s for the largest."""
    before = learn(samples(*[(1.0, 4.5)] * 20))
    after = learn(samples(*[(1.0, 4.5)] * 20, (8.0, 11.7)))
    errors = [abs(times.of(8.0, "here") - 11.7) for times in (before, after)]
    assert errors[1] < 0.55 * errors[0]


@given(st.floats(0, 5), st.floats(0.1, 5))
def test_a_fixed_part_is_told_from_one_that_grows(fixed_s, unit_s):
    costs = [0.1, 0.5, 1.0, 2.0, 4.0, 8.0] * 8
    times = learn(samples(*((cost, fixed_s + unit_s * cost) for cost in costs)))
    for cost in (0.2, 1.0, 8.0):
        assert times.of(cost, "here") == pytest.approx(fixed_s + unit_s * cost, rel=0.1)


def test_one_odd_job_does_not_teach_much():
    usual = samples(*[(1.0, 2.0)] * 40)
    stuck = samples((1.5, 300.0))
    times = learn([*usual, *stuck])
    assert times.of(1.0, "here") == pytest.approx(2.0, rel=0.2)


def test_regions_have_their_own_speed_and_unknown_ones_the_mean():
    fast = samples(*((cost, 1.0 + cost) for cost in (1.0, 2.0, 4.0) * 5), region="fast")
    slow = samples(*[(1.0, 6.0)] * 5, region="slow")
    times = learn([*fast, *slow])
    assert times.of(4.0, "fast") == pytest.approx(5.0, rel=0.15)
    assert times.of(1.0, "slow") == pytest.approx(6.0, rel=0.15)
    assert times.of(2.0, "slow") > 1.3 * times.of(1.0, "slow")
    assert times.of(1.0, "fast") < times.of(1.0, "new") < times.of(1.0, "slow")


@given(st.lists(st.tuples(st.floats(0.001, 20), st.floats(0, 100)), min_size=1, max_size=30))
def test_an_estimate_is_a_finite_time_whatever_was_measured(pairs):
    times = learn(samples(*pairs))
    for cost in (0.001, 1.0, 20.0):
        assert 0.0 <= times.of(cost, "here") < 1e7
