"""Erlang's formulas, ceilings, load cost, ramp."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.routing.capacity import (
    CEILING_FLOOR,
    CEILING_TOP,
    ceiling,
    erlang_b,
    erlang_c,
    ewma,
    load_cost,
    ramp,
    wait_quantile,
)


@pytest.mark.parametrize(
    ("servers", "offered", "blocked"),
    # Textbook values: one server a/(1+a); the last two from Erlang's tables.
    [(1, 1.0, 0.5), (2, 1.0, 0.2), (10, 4.46, 0.01), (100, 84.1, 0.01)],
)
def test_erlang_b_gives_the_tables_values(servers, offered, blocked):
    assert erlang_b(servers, offered) == pytest.approx(blocked, rel=0.01)


def test_erlang_c_of_one_server_is_its_load():
    assert erlang_c(1, 0.7) == pytest.approx(0.7)


def test_more_load_than_servers_always_waits():
    assert (erlang_c(4, 4.0), wait_quantile(4, 4.0, 1.0)) == (1.0, inf)


def test_the_wait_of_one_server_is_exponential():
    # M/M/1: P(W > t) = rho exp(-(1 - rho) t / S).
    assert wait_quantile(1, 0.5, 2.0, 0.9) == pytest.approx(2.0 / 0.5 * 1.6094379, rel=1e-6)


@pytest.mark.parametrize(("ready", "top"), [(8, 0.44), (32, 0.745), (64, 0.84), (128, 0.907)])
def test_ceilings_are_those_of_a_quarter_service_time(ready, top):
    assert ceiling(ready) == pytest.approx(top, abs=0.01)


@given(st.integers(0, 3000))
def test_a_ceiling_stays_within_its_bounds(ready):
    assert CEILING_FLOOR <= ceiling(ready) <= CEILING_TOP


@given(st.integers(1, 400))
def test_a_larger_pool_has_no_lower_ceiling(ready):
    assert ceiling(ready + 1) >= ceiling(ready) - 1e-6


def test_without_measurements_the_cost_is_littles():
    assert load_cost(20, 4.0) == pytest.approx(0.2)


def test_a_pool_without_workers_costs_infinitely():
    assert load_cost(0, 4.0) == inf


def test_measurements_move_the_cost_towards_their_slope():
    samples = [(rate, 0.3 * rate) for rate in (1.0, 1.5, 2.0, 2.5, 3.0)]
    assert 0.2 < load_cost(20, 4.0, samples) < 0.3


def test_one_outlier_does_not_move_the_cost():
    clean = [(1.0 + 0.1 * i, 0.2 * (1.0 + 0.1 * i)) for i in range(20)]
    assert load_cost(20, 4.0, [*clean, (2.0, 9.0)]) == pytest.approx(0.2, rel=0.02)


def test_a_measured_cost_stays_within_twice_the_prior():
    samples = [(0.1 * i, 5.0 * 0.1 * i) for i in range(200)]
    assert load_cost(20, 4.0, samples) == pytest.approx(0.4)


def test_half_of_a_step_is_reached_after_one_half_life():
    assert ewma(0.0, 10.0, 30.0, 30.0) == pytest.approx(5.0)


def test_the_first_sample_is_taken_as_is():
    assert ewma(None, 7.0, 10.0, 30.0) == 7.0


def test_a_recovered_region_starts_at_a_tenth():
    assert ramp(0.0) == pytest.approx(0.1)


def test_a_minute_after_recovery_all_capacity_counts():
    assert ramp(60.0) == 1.0


def test_a_region_that_was_never_down_counts_in_full():
    assert ramp(None) == 1.0
