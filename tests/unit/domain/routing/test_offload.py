"""The routing table's algorithm."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.routing.capacity import OVERLOAD_TOP
from app.domain.routing.load import Load, RegionLoad
from app.domain.routing.offload import in_region_bound, limits_of, offload
from app.domain.routing.topology import Region, Ring, Rings, Topology
from app.planning.geography import random_world
from app.planning.lp import optimum
from scripts.benchmarks.loads import routing_problems

S = 4.0


def line(*at: float, rings: Rings | None = None) -> Topology:
    """Regions a, b, c, ... on a line; positions in ms."""
    names = [f"{chr(97 + i)}{chr(97 + i)}" for i in range(len(at))]
    return Topology(
        [
            Region(a, {b: abs(x - y) for b, y in zip(names, at, strict=True) if a != b})
            for a, x in zip(names, at, strict=True)
        ],
        rings,
    )


def hundred(overload: float, **changes) -> RegionLoad:
    """100 workers, demand `overload` times their ceiling."""
    region = RegionLoad(100, 0.0, S)
    return replace(region, demand=overload * region.ceiling * region.capacity, **changes)


def loads(*regions: RegionLoad, allowed=None) -> Load:
    return Load({f"{chr(97 + i)}" * 2: r for i, r in enumerate(regions)}, allowed or {})


def test_demand_that_fits_stays_at_home():
    shares = offload(loads(hundred(1.0), hundred(0.1)), line(0, 10))
    assert shares.rows() == {"aa": {"aa": 1.0}, "bb": {"bb": 1.0}}


def test_an_overloaded_region_sheds_to_its_ceiling_and_no_further():
    shares = offload(loads(hundred(1.25), hundred(0.5)), line(0, 10))
    assert shares.utilisation()["aa"] == pytest.approx(hundred(0).ceiling)


def test_the_nearest_region_fills_before_the_next():
    shares = offload(loads(hundred(1.5), hundred(0.4), hundred(0.1)), line(0, 10, 20))
    assert set(shares.rows()["aa"]) == {"aa", "bb"}


@pytest.mark.parametrize(("overload", "ring"), [(1.05, "bb"), (1.25, "cc"), (1.5, "dd")])
def test_the_ring_follows_from_the_overload(overload, ring):
    near_is_full = [hundred(1.0)] * ("bcd".index(ring[0]))
    load = loads(hundred(overload), *near_is_full, *[hundred(0.0)] * (3 - len(near_is_full)))
    shares = offload(load, line(0, 30, 90, 200, rings=Rings(widen=False)))
    assert shares.rows()["aa"][ring] > 0


def test_a_warm_region_may_not_use_a_far_one_when_rings_are_fixed():
    load = loads(hundred(1.05), hundred(0.1))
    shares = offload(load, line(0, 90, rings=Rings(widen=False)))
    assert shares.over_ceiling() == ["aa"]


def test_rings_widen_rather_than_leave_a_region_over_its_ceiling():
    shares = offload(loads(hundred(1.05), hundred(0.1)), line(0, 90))
    assert shares.over_ceiling() == []


def test_nothing_is_sent_to_a_region_that_is_down():
    shares = offload(loads(hundred(1.5), hundred(0.1, ready=0), hundred(0.1)), line(0, 10, 20))
    assert "bb" not in shares.rows()["aa"]


def test_all_demand_leaves_a_region_that_is_down():
    shares = offload(loads(hundred(0.5, ready=0), hundred(0.1)), line(0, 250))
    assert shares.rows()["aa"] == {"bb": pytest.approx(1.0)}


def test_pinned_demand_stays_in_an_overloaded_home():
    region = hundred(2.0)
    load = loads(replace(region, pinned=region.demand), hundred(0.1))
    assert offload(load, line(0, 10)).flows[0][1] == 0.0


def test_an_allow_list_is_never_crossed():
    load = loads(hundred(1.5), hundred(0.1), hundred(0.1), allowed={"aa": frozenset({"cc"})})
    assert set(offload(load, line(0, 10, 20)).rows()["aa"]) == {"aa", "cc"}


def test_a_small_pool_keeps_its_demand():
    load = loads(RegionLoad(4, 3.0, S), hundred(0.1))
    assert offload(load, line(0, 10)).rows()["aa"] == {"aa": 1.0}


def test_a_small_pool_receives_no_shares():
    load = loads(hundred(1.05), RegionLoad(7, 0.0, S))
    assert offload(load, line(0, 10)).rows()["aa"] == {"aa": 1.0}


def test_total_overload_raises_all_ceilings_together():
    shares = offload(loads(hundred(1.2), hundred(0.85)), line(0, 10))
    used = shares.utilisation()
    assert used["aa"] == pytest.approx(used["bb"], rel=1e-3)


def test_demand_beyond_raised_ceilings_is_shed():
    load = loads(hundred(2.0), hundred(1.0))
    capacity = 2 * hundred(0).capacity
    assert limits_of(load, line(0, 10)).shed == pytest.approx(
        1 - OVERLOAD_TOP * capacity / load.demand
    )


def test_overflow_makes_room_for_a_region_without_alternatives():
    # bb's nearest is aa, but aa is all that cc may use; dd is there for bb as well.
    load = loads(
        hundred(0.8),
        hundred(1.2),
        hundred(1.2),
        hundred(0.5),
        allowed={"cc": frozenset({"aa"})},
    )
    assert offload(load, line(0, 5, 40, 30, rings=Rings(widen=False))).over_ceiling() == []


@pytest.mark.parametrize("seed", range(5))
def test_as_much_stays_at_home_as_the_closed_form_allows(seed):
    topology, load = random_world(20, np.random.default_rng(seed), load=0.94, skew=0.6)
    shares = offload(load, topology)
    demand = [load.of(name).demand for name in topology.names]
    assert shares.in_region() == pytest.approx(in_region_bound(shares.limits, demand), abs=1e-6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(routing_problems())
def test_no_region_is_over_its_ceiling_when_the_optimum_has_none(problem):
    topology, load = problem
    shares = offload(load, topology)
    if optimum(load, topology, limits_of(load, topology)).feasible:
        assert shares.over_ceiling() == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(routing_problems())
def test_no_demand_is_lost_or_made(problem):
    topology, load = problem
    flows = offload(load, topology).flows
    sent = [sum(row) for row in flows]
    assert sent == pytest.approx([load.of(n).demand for n in topology.names], rel=1e-6, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(routing_problems(), st.randoms(use_true_random=False))
def test_the_order_in_which_regions_report_does_not_matter(problem, random):
    topology, load = problem
    names = list(load.regions)
    random.shuffle(names)
    shuffled = Load({name: load.regions[name] for name in names}, load.allowed)
    assert offload(shuffled, topology).flows == offload(load, topology).flows


def test_reach_is_the_homes_own():
    limits = limits_of(loads(hundred(1.2), hundred(0.9)), line(0, 10))
    assert limits.reach == (Ring.FAR, Ring.HOME)
