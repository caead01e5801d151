"""Where one job may be placed, in what order."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.routing.candidates import RoutingRequest, candidates, drawn
from app.domain.routing.damping import next_table
from app.domain.routing.load import Load, RegionLoad
from app.domain.routing.topology import Region, Topology
from stillmotion.states import Policy

POSITIONS = {"home": 0, "near": 20, "far": 90, "away": 200}
TOPOLOGY = Topology(
    [
        Region(a, {b: abs(x - y) for b, y in POSITIONS.items() if a != b})
        for a, x in POSITIONS.items()
    ]
)
READY = dict.fromkeys(POSITIONS, 100)
TABLE = next_table(
    None,
    Load({name: RegionLoad(100, 5.0, 4.0) for name in POSITIONS}),
    TOPOLOGY,
    0.0,
)
HALF_AWAY = replace(TABLE, shares={**TABLE.shares, "home": {"home": 0.5, "far": 0.5}})
JOBS = [UUID(int=n) for n in range(400)]


def asked(table=TABLE, age_s=0.0, *, job=JOBS[0], policy=Policy.RING, allowed=None, **more):
    facts = {"ready": READY, "in_flight": {}, **more}
    request = RoutingRequest(job, "home", policy, allowed)
    return list(candidates(request, TOPOLOGY, table, age_s, **facts))


def test_home_comes_first_then_the_near_ring():
    assert asked() == ["home", "near"]


@pytest.mark.parametrize(
    ("rounds", "regions"),
    [(0, ["home", "near"]), (1, ["home", "near", "far"]), (2, ["home", "near", "far", "away"])],
)
def test_every_refused_round_opens_a_ring(rounds, regions):
    assert asked(rounds=rounds) == regions


def test_an_overloaded_homes_reach_is_open_at_once():
    assert asked(replace(TABLE, reach={**TABLE.reach, "home": 2})) == ["home", "near", "far"]


def test_a_strict_job_tries_no_other_region():
    assert asked(policy=Policy.STRICT, rounds=9) == ["home"]


def test_a_job_of_any_region_asks_all_of_them():
    assert asked(policy=Policy.ANY) == ["home", "near", "far", "away"]


def test_an_allow_list_is_never_crossed():
    assert asked(policy=Policy.ANY, allowed={"home", "away"}) == ["home", "away"]


def test_a_job_not_allowed_at_home_waits_in_the_nearest_allowed_region():
    assert asked(allowed={"away", "far"}) == ["far", "away"]


def test_a_strict_job_whose_home_is_forbidden_has_no_candidate():
    assert asked(policy=Policy.STRICT, allowed={"far"}) == []


def test_jobs_follow_the_shares():
    away = sum(asked(HALF_AWAY, job=job)[0] == "far" for job in JOBS)
    assert 160 < away < 240  # four deviations around 200


def test_a_job_always_draws_the_same_region():
    assert all(asked(HALF_AWAY, job=job) == asked(HALF_AWAY, job=job) for job in JOBS[:50])


def test_shares_outside_the_allow_list_are_dropped():
    assert all(asked(HALF_AWAY, job=job, allowed={"home"}) == ["home"] for job in JOBS[:50])


def test_a_share_of_a_region_that_has_died_goes_home():
    dead = {**READY, "far": 0}
    assert all(asked(HALF_AWAY, job=job, ready=dead)[0] == "home" for job in JOBS[:50])


@pytest.mark.parametrize(("age_s", "first"), [(10.0, "far"), (60.0, "home"), (600.0, "home")])
def test_shares_shift_to_home_as_the_table_ages(age_s, first):
    sent_away = next(job for job in JOBS if asked(HALF_AWAY, job=job)[0] == "far")
    assert asked(HALF_AWAY, age_s, job=sent_away)[0] == first


def test_without_a_table_all_regions_are_open_by_round_trip():
    assert asked(None, None) == ["home", "near", "far", "away"]


def test_without_a_table_overflow_to_one_neighbour_is_limited():
    assert asked(None, None, in_flight={"near": 5}, unlisted_spare=5) == ["home", "far", "away"]


def test_overflow_in_flight_counts_against_spare_workers():
    assert asked(in_flight={"near": TABLE.spare["near"]}) == ["home"]


def test_a_dead_homes_share_does_not_reduce_the_others_in_its_row():
    dead = {**READY, "home": 0}
    away = sum(asked(HALF_AWAY, job=job, ready=dead)[0] == "far" for job in JOBS)
    assert 160 < away < 240  # its own half, four deviations either way


def test_a_small_home_uses_no_shares():
    small = {**READY, "home": 3}
    assert all(asked(HALF_AWAY, job=job, ready=small)[0] == "home" for job in JOBS[:50])


def test_a_home_that_is_down_opens_every_ring():
    assert asked(ready={**READY, "home": 0}) == ["home", "near", "far", "away"]


def test_a_region_that_is_down_is_not_asked():
    assert "near" not in asked(ready={**READY, "near": 0}, rounds=2)


@given(
    st.sampled_from(Policy),
    st.none() | st.frozensets(st.sampled_from(sorted(POSITIONS))),
    st.none() | st.floats(0, 1000),
    st.integers(0, 5),
    st.sampled_from(JOBS),
)
def test_no_region_is_asked_twice_or_against_the_rules(policy, allowed, age_s, rounds, job):
    regions = asked(HALF_AWAY, age_s, job=job, policy=policy, allowed=allowed, rounds=rounds)
    assert len(set(regions)) == len(regions)
    assert allowed is None or set(regions) <= allowed
    assert policy is not Policy.STRICT or set(regions) <= {"home"}


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1)), st.floats(0, 1, exclude_max=True))
def test_a_region_without_weight_is_never_drawn(row, draw):
    region = drawn(row, draw)
    assert region is None or row[region] > 0.0
