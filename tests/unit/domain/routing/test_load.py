"""Reports that are refused, and what a region's load means."""

from dataclasses import replace

import pytest

from app.domain.routing.load import (
    CLOCK_SKEW_S,
    REPORT_FRESH_S,
    Load,
    RegionLoad,
    Report,
    ReportRefused,
    accept,
    fresh,
)
from app.domain.routing.topology import Region, Topology

TOPOLOGY = Topology([Region("aa", {"bb": 10}), Region("bb", {"aa": 10})])
GOOD = Report("aa", 7, 1000.0, ready=10, busy=4, waiting=0, demand=2.0, service_s=4.0)


def test_a_newer_report_is_accepted():
    accept(replace(GOOD, sequence=8, sent_at=1005.0), GOOD, 1005.0, TOPOLOGY)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"region": "zz"}, "unknown_region"),
        ({"sequence": 7}, "old_sequence"),
        ({"sequence": 6}, "old_sequence"),
        ({"sent_at": 1000.0 + CLOCK_SKEW_S + 1}, "future"),
        ({"busy": 11}, "bad_number"),
        ({"demand": -1.0}, "bad_number"),
        ({"demand": float("nan")}, "bad_number"),
        ({"pinned": 3.0}, "bad_number"),
    ],
)
def test_a_report_that_cannot_be_true_is_refused(change, reason):
    with pytest.raises(ReportRefused) as refused:
        accept(replace(GOOD, **{"sequence": 8, **change}), GOOD, 1000.0, TOPOLOGY)
    assert refused.value.reason == reason


def test_a_refusal_is_one_sentence():
    with pytest.raises(ReportRefused, match=r"^The report of aa has sequence 7, after 7\.$"):
        accept(GOOD, GOOD, 1000.0, TOPOLOGY)


def test_a_clock_slightly_ahead_is_tolerated():
    accept(replace(GOOD, sent_at=1000.0 + CLOCK_SKEW_S), None, 1000.0, TOPOLOGY)


@pytest.mark.parametrize(("age_s", "believed"), [(REPORT_FRESH_S, True), (16.0, False)])
def test_a_report_is_valid_for_fifteen_seconds(age_s, believed):
    assert fresh(GOOD, GOOD.sent_at + age_s) is believed


def test_a_region_that_never_reported_is_not_fresh():
    assert not fresh(None, 0.0)


def test_a_drained_region_has_no_capacity():
    assert RegionLoad(100, 1.0, 4.0, drained=True).capacity == 0.0


def test_an_operators_cap_lowers_the_ceiling():
    assert RegionLoad(100, 1.0, 4.0, cap=0.3).ceiling == 0.3


def test_home_is_always_allowed():
    assert Load({}, {"aa": frozenset()}).permits("aa", "aa")
