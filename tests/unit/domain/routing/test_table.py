"""Tables as published: invariants, JSON, age."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from app.domain.routing.damping import next_table
from app.domain.routing.load import Load, RegionLoad
from app.domain.routing.table import Mode, Table, TableRefused, check_invariants, local_spare, mode
from app.domain.routing.topology import Region, Topology
from scripts.benchmarks.loads import routing_problems

TOPOLOGY = Topology(
    [
        Region("aa", {"bb": 10, "cc": 20}),
        Region("bb", {"aa": 10, "cc": 20}),
        Region("cc", {"aa": 20, "bb": 20}),
    ]
)
LOAD = Load(
    {
        "aa": RegionLoad(100, 28.0, 4.0, busy=90),
        "bb": RegionLoad(100, 10.0, 4.0, busy=45),
        "cc": RegionLoad(0, 0.0, 4.0),
    }
)
TABLE = next_table(None, LOAD, TOPOLOGY, 1000.0)


def refused(table: Table, load: Load = LOAD, **more) -> str:
    with pytest.raises(TableRefused) as error:
        check_invariants(table, load, TOPOLOGY, **more)
    return error.value.reason


def with_row(**row: float) -> Table:
    return replace(TABLE, shares={**TABLE.shares, "aa": row})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(routing_problems())
def test_no_table_breaks_an_invariant(problem):
    topology, load = problem
    check_invariants(next_table(None, load, topology, 0.0), load, topology, exact=True)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(routing_problems(), routing_problems())
def test_no_damped_table_breaks_an_invariant(before, after):
    topology, load = after
    old = next_table(None, before[1], before[0], 0.0)
    check_invariants(next_table(old, load, topology, 10.0), load, topology)


def test_jobs_leave_a_region_at_once_when_it_becomes_forbidden():
    narrowed = replace(LOAD, allowed={"aa": frozenset({"cc"})})
    old = with_row(aa=0.1, bb=0.9)
    table = next_table(old, narrowed, TOPOLOGY, 10.0)
    assert table.shares["aa"].get("bb", 0.0) == 0.0
    check_invariants(table, narrowed, TOPOLOGY)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"aa": 0.9}, "row"),
        ({"aa": 1.5, "bb": -0.5}, "row"),
        ({"aa": float("nan")}, "row"),
        ({"aa": 0.5, "zz": 0.5}, "regions"),
        ({"aa": 0.5, "cc": 0.5}, "dead_target"),
    ],
)
def test_an_invalid_row_is_refused(row, reason):
    assert refused(with_row(**row)) == reason


def test_a_table_that_overloads_a_target_is_refused():
    over = replace(TABLE, load={**TABLE.load, "bb": 0.99})
    assert refused(over) == "target_over_ceiling"


def test_a_table_that_crosses_an_allow_list_is_refused():
    assert refused(TABLE, replace(LOAD, allowed={"aa": frozenset({"cc"})})) == "residency"


def test_a_table_without_a_region_is_refused():
    assert refused(replace(TABLE, shares={"aa": {"aa": 1.0}})) == "regions"


def test_a_table_built_from_too_few_reports_is_refused():
    assert refused(TABLE, fresh=1) == "stale_reports"


def test_an_older_version_is_refused():
    assert refused(TABLE, previous=TABLE) == "version"


def test_demand_that_triples_within_a_cycle_is_rejected():
    before = replace(TABLE, version=0, demand=TABLE.demand / 4)
    assert refused(TABLE, previous=before) == "demand_jump"


def test_json_keeps_the_table():
    assert Table.from_json(TABLE.to_json()) == TABLE


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": "x"}', '{"nonsense": 1}', "null"])
def test_json_that_is_not_a_table_is_refused(text):
    with pytest.raises(TableRefused, match="no routing table"):
        Table.from_json(text)


def test_a_number_that_json_cannot_hold_is_refused():
    with pytest.raises(TableRefused):
        Table.from_json(TABLE.to_json().replace('"demand":38.0', '"demand":NaN'))


def test_a_busy_region_has_no_spare_workers_whatever_was_planned():
    assert next_table(None, LOAD, TOPOLOGY, 0.0).spare["aa"] == 0


def test_idle_workers_are_spare_although_the_plan_is_still_high():
    full = Load({**LOAD.regions, "bb": RegionLoad(100, 22.0, 4.0, busy=10)})
    assert next_table(None, full, TOPOLOGY, 0.0).spare["bb"] > 70


@pytest.mark.parametrize(
    ("age_s", "rung"),
    [
        (0.0, Mode.NORMAL),
        (30.0, Mode.NORMAL),
        (31.0, Mode.HOME_FIRST),
        (120.0, Mode.HOME_FIRST),
        (121.0, Mode.LOCAL),
        (None, Mode.LOCAL),
    ],
)
def test_an_old_table_counts_for_less_and_less(age_s, rung):
    assert mode(age_s) is rung


def test_without_a_table_a_fifth_of_demand_may_go_to_one_neighbour():
    assert local_spare(10.0, 4.0) == 8
