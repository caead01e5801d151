"""Full-jitter backoff, retry budget, overflow throttle, start delay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.routing.pacing import (
    PROBE_CAP_S,
    RETRY_CAP_S,
    OverflowThrottle,
    RetryBudget,
    Window,
    delayed_share,
    execution_delay,
    probe_delay,
    retry_delay,
)

draws = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10**6), draws)
def test_a_probe_never_waits_longer_than_its_cap(refusals, draw):
    assert 0 <= probe_delay(refusals, draw) < PROBE_CAP_S


@given(st.integers(1, 10**6), draws)
def test_a_retry_never_waits_longer_than_its_cap(begun, draw):
    assert 0 <= retry_delay(begun, draw) < RETRY_CAP_S


def test_the_ceiling_doubles_until_the_cap():
    ceilings = [probe_delay(n, 0.999999) for n in range(1, 8)]
    assert [round(c, 2) for c in ceilings] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_full_jitter_may_wait_nothing_at_all():
    assert probe_delay(10, 0.0) == 0.0


def test_a_window_expires():
    window = Window(60.0)
    window.add(0.0, 5)
    window.add(30.0, 2)
    assert (window.total(30.0), window.total(65.0), window.total(100.0)) == (7, 2, 0)


def test_a_few_retries_are_always_allowed():
    budget = RetryBudget()
    assert [budget.take(1.0) for _ in range(4)] == [True, True, True, False]


def test_retries_are_a_tenth_of_recent_requests():
    budget = RetryBudget()
    for n in range(200):
        budget.request(n * 0.1)
    assert sum(budget.take(20.0) for _ in range(100)) == 20


def test_the_retry_budget_recovers():
    budget = RetryBudget()
    while budget.take(0.0):
        pass
    assert budget.take(61.0)


def test_a_region_that_accepts_is_not_throttled():
    throttle = OverflowThrottle()
    for n in range(100):
        throttle.asked(n * 0.1, accepted=True)
    assert throttle.refusal(10.0) == 0.0


def test_a_region_that_refuses_everything_is_asked_rarely():
    throttle = OverflowThrottle()
    for n in range(100):
        throttle.asked(n * 0.1, accepted=False)
    assert throttle.refusal(10.0) > 0.95


def test_a_throttled_region_is_tried_again_after_a_while():
    throttle = OverflowThrottle()
    throttle.asked(0.0, accepted=False)
    assert throttle.refusal(40.0) == 0.0


def test_delays_begin_when_a_region_runs_hot():
    shares = [delayed_share(u) for u in (0.5, 0.85, 0.925, 1.0, 1.5)]
    assert shares == pytest.approx([0.0, 0.0, 0.25, 0.5, 0.5])


def test_a_delayed_job_waits_a_quarter_service_time_at_most():
    assert execution_delay(1.0, 2.0, 0.0, 0.999) <= 0.5


def test_a_job_outside_the_share_is_not_delayed():
    assert execution_delay(1.0, 2.0, 0.5, 0.9) == 0.0
