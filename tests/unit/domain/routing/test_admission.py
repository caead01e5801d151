"""Admission by predicted wait."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.routing.admission import (
    Class,
    admit,
    predicted_wait,
    retry_after,
    shed_shares,
    wait_among,
    wait_bound,
)

draws = st.floats(0, 1, exclude_max=True)


def test_nobody_waits_for_an_idle_worker():
    assert predicted_wait(waiting=0, ready=10, idle=1, service_s=4.0) == 0.0


def test_the_wait_is_the_queue_including_oneself_over_the_pools_rate():
    assert predicted_wait(waiting=4, ready=10, idle=0, service_s=4.0) == pytest.approx(2.0)


def test_a_pool_without_workers_never_serves():
    assert predicted_wait(0, 0, 0, 4.0) == inf


TEN_EACH = {"aa": 10, "bb": 10}


def test_a_job_waits_in_the_queue_of_its_first_candidate():
    wait_s = wait_among(["aa", "bb"], {"aa": 9, "bb": 1}, TEN_EACH, {}, 4.0)
    assert wait_s == pytest.approx(4.0)


def test_nobody_waits_while_any_candidate_has_a_free_worker():
    assert wait_among(["aa", "bb"], {"aa": 9}, TEN_EACH, {"bb": 1}, 4.0) == 0.0


def test_no_job_waits_in_the_queue_of_a_dead_region():
    wait_s = wait_among(["aa", "bb"], {"bb": 1}, {"aa": 0, "bb": 10}, {}, 4.0)
    assert wait_s == pytest.approx(0.8)


def test_a_job_without_candidates_would_wait_for_ever():
    assert wait_among([], {}, {}, {}, 4.0) == inf


@pytest.mark.parametrize(("service_s", "bound_s"), [(0.5, 1.0), (4.0, 2.0), (60.0, 5.0)])
def test_interactive_jobs_wait_half_a_service_time_within_limits(service_s, bound_s):
    assert wait_bound(Class.INTERACTIVE, service_s) == bound_s


def test_a_wait_within_the_bound_is_accepted():
    assert admit(Class.PAID, 1.9, 4.0, draw=0.5, spread=0.5).admitted


def test_a_wait_beyond_the_bound_is_refused_with_retry_after():
    verdict = admit(Class.INTERACTIVE, 8.0, 4.0, draw=0.5, spread=0.5)
    assert (verdict.admitted, verdict.retry_after_s) == (False, pytest.approx(8.0))


def test_a_batch_job_waits_where_an_interactive_one_is_refused():
    assert admit(Class.BATCH, 600.0, 4.0, draw=0.5, spread=0.5).admitted


def test_a_free_worker_is_never_refused():
    assert admit(Class.INTERACTIVE, 0.0, 4.0, shed_share=1.0, draw=0.0, spread=0.5).admitted


def test_the_least_important_are_shed_first():
    demand = {Class.PAID: 40.0, Class.INTERACTIVE: 40.0, Class.BATCH: 20.0}
    assert shed_shares(demand, 0.4) == {
        Class.BATCH: 1.0,
        Class.INTERACTIVE: pytest.approx(0.5),
        Class.PAID: 0.0,
    }


@given(st.dictionaries(st.sampled_from(Class), st.floats(0.01, 100), min_size=1), st.floats(0, 1))
def test_shed_shares_add_up(demand, shed):
    shares = shed_shares(demand, shed)
    total = sum(shares[kind] * demand[kind] for kind in demand)
    assert total == pytest.approx(shed * sum(demand.values()))


@given(st.floats(0, 1e6) | st.just(inf), draws)
def test_retry_after_stays_between_a_second_and_a_minute(drain_s, draw):
    assert 1.0 <= retry_after(drain_s, draw) <= 60.0


def test_clients_do_not_all_return_at_once():
    assert retry_after(20.0, 0.0) == 10.0
    assert retry_after(20.0, 0.999) == pytest.approx(30.0, abs=0.1)
