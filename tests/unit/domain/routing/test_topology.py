"""Regions, their order, and the names of queues."""

import pytest

from app.domain.routing.topology import Pool, Region, Ring, Rings, Topology
from stillmotion.states import Policy

THREE = Topology(
    [
        Region("us-east", {"us-west": 60, "eu-west": 80}),
        Region("us-west", {"us-east": 60, "eu-west": 140}),
        Region("eu-west", {"us-east": 80, "us-west": 140}),
    ]
)


def test_the_default_profile_has_the_short_queue_name():
    assert Pool("us-east", "motion-small").queue == "animate.us-east"
    assert Pool("us-east", "noop").queue == "animate.us-east.noop"


def test_home_comes_first_and_then_the_nearest():
    assert THREE.by_round_trip("eu-west") == ["eu-west", "us-east", "us-west"]


def test_after_a_failure_another_region_is_tried_first():
    assert THREE.after_failure("us-east", "us-east", Policy.RING, None) == "us-west"
    assert THREE.after_failure("us-west", "us-east", Policy.RING, None) == "us-east"


def test_a_strict_job_stays_home_and_an_allow_list_is_never_crossed():
    assert THREE.after_failure("us-east", "us-east", Policy.STRICT, None) == "us-east"
    allowed = ["us-east", "eu-west"]
    assert THREE.after_failure("us-east", "us-east", Policy.ANY, allowed) == "eu-west"
    assert THREE.after_failure("us-east", "us-east", Policy.ANY, ["us-east"]) == "us-east"


@pytest.mark.parametrize(
    ("regions", "sentence"),
    [
        ([], "no region"),
        ([Region("aa"), Region("aa")], "share one name"),
        ([Region("Bad_Name")], "must be 2-32"),
        ([Region("aa", {"bb": 1})], "unknown neighbour 'bb'"),
        ([Region("aa", {"bb": 1}), Region("bb")], "is missing"),
        ([Region("aa", {"bb": 1}), Region("bb", {"aa": 2})], "differ"),
        ([Region("aa", {"bb": -1}), Region("bb", {"aa": -1})], ">= 0"),
    ],
)
def test_inconsistent_regions_are_refused(regions, sentence):
    with pytest.raises(ValueError, match=sentence):
        Topology(regions)


def test_rings_are_bounds_on_the_round_trip():
    rings = [THREE.ring("us-east", other) for other in ("us-east", "us-west", "eu-west")]
    assert rings == [Ring.HOME, Ring.FAR, Ring.FAR]


def test_a_ring_holds_those_before_it():
    assert THREE.within("us-west", Ring.FAR) == ("us-east",)
    assert THREE.within("us-west", Ring.ANY) == ("us-east", "eu-west")


def test_reach_grows_with_overload():
    reach = [Rings().reach(x) for x in (0.9, 1.0, 1.1, 1.3, 1.31, float("inf"))]
    assert reach == [Ring.HOME, Ring.HOME, Ring.NEAR, Ring.FAR, Ring.ANY, Ring.ANY]
