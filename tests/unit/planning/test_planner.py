"""The capacity planner."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.routing.capacity import ceiling, wait_quantile
from app.domain.routing.topology import Region, Topology
from app.planning.geography import known
from app.planning.planner import Forecast, NoPlan, PlanError, make_plan

THREE = known(3)
PEAK = dict(zip(THREE.names, (12.0, 4.0, 9.0), strict=True))
FORECAST = Forecast(PEAK, 4.0)


def test_every_region_carries_its_own_peak_under_its_ceiling():
    assert all(r.load <= r.ceiling + 1e-9 for r in make_plan(FORECAST, THREE).regions)


def test_no_region_is_over_its_ceiling_when_another_is_down():
    assert all(r.worst_load <= r.ceiling + 1e-6 for r in make_plan(FORECAST, THREE).regions)


@pytest.mark.parametrize("name", THREE.names)
def test_all_demand_of_a_failed_region_has_somewhere_to_go(name):
    flows = [f for f in make_plan(FORECAST, THREE).overflow if f.home == name]
    assert sum(f.per_s for f in flows) == pytest.approx(PEAK[name])


def test_without_survival_a_plan_is_smaller():
    alone = make_plan(replace(FORECAST, survive=False), THREE)
    assert (alone.gpus < make_plan(FORECAST, THREE).gpus, alone.overflow) == (True, ())


def test_one_gpu_less_at_home_would_be_over_the_ceiling():
    for region in make_plan(replace(FORECAST, survive=False), THREE).regions:
        assert region.peak * 4.0 > ceiling(region.gpus - 1) * (region.gpus - 1)


def test_a_target_wait_is_met():
    plan = make_plan(replace(FORECAST, target_wait_s=0.2, survive=False), THREE)
    assert all(wait_quantile(r.gpus, r.peak * 4.0, 4.0) <= 0.2 + 1e-9 for r in plan.regions)


def test_overflow_stays_within_the_allowed_round_trip():
    # Two pairs of neighbours, an ocean apart.
    at = {"aa": 0.0, "bb": 20.0, "cc": 200.0, "dd": 220.0}
    topology = Topology(
        [Region(a, {b: abs(x - y) for b, y in at.items() if a != b}) for a, x in at.items()]
    )
    forecast = Forecast(dict.fromkeys(at, 5.0), 4.0, max_rtt_ms=50.0)
    flows = make_plan(forecast, topology).overflow
    assert {(f.home, f.target) for f in flows} == {
        ("aa", "bb"),
        ("bb", "aa"),
        ("cc", "dd"),
        ("dd", "cc"),
    }


def test_a_region_whose_demand_can_go_nowhere_has_no_plan():
    with pytest.raises(NoPlan, match="No other region may take"):
        make_plan(replace(FORECAST, max_rtt_ms=1.0), THREE)


def test_an_allow_list_forces_capacity_where_it_points():
    only = {THREE.names[0]: frozenset({THREE.names[1]})}
    plan = make_plan(replace(FORECAST, allowed=only), THREE)
    assert {f.target for f in plan.overflow if f.home == THREE.names[0]} == {THREE.names[1]}


def test_a_region_without_demand_may_still_cover_for_others():
    plan = make_plan(replace(FORECAST, peak={**PEAK, THREE.names[1]: 0.0}), THREE)
    assert plan.gpus > 0


def test_a_single_region_cannot_survive_its_outage():
    with pytest.raises(NoPlan, match="nothing can take over"):
        make_plan(Forecast({"aa": 1.0}, 4.0), Topology([Region("aa")]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"peak": {**PEAK, "zz": 1.0}}, "unknown region 'zz'"),
        ({"peak": {}}, "does not mention region"),
        ({"peak": {**PEAK, THREE.names[0]: -1.0}}, "0 or more"),
        ({"peak": {**PEAK, THREE.names[0]: float("nan")}}, "0 or more"),
        ({"peak": {**PEAK, THREE.names[0]: 1e9}}, "more than 100000 GPUs"),
        ({"service_s": 0.0}, "service time"),
        ({"target_wait_s": -1.0}, "target wait"),
    ],
)
def test_an_invalid_forecast_is_refused(change, sentence):
    with pytest.raises(PlanError, match=sentence):
        make_plan(replace(FORECAST, **change), THREE)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.1, 60.0), min_size=5, max_size=5), st.floats(0.5, 20.0))
def test_any_forecast_gets_a_plan_that_the_auditor_confirms(peaks, service_s):
    topology = known(5)
    plan = make_plan(Forecast(dict(zip(topology.names, peaks, strict=True)), service_s), topology)
    assert all(r.worst_load <= r.ceiling + 1e-6 for r in plan.regions)
