"""The auditor."""

import numpy as np
import pytest

from app.domain.routing.load import Load, RegionLoad
from app.domain.routing.offload import offload
from app.domain.routing.topology import Region, Topology
from app.planning.geography import random_world
from app.planning.lp import gap, optimum

PAIR = Topology([Region("aa", {"bb": 10}), Region("bb", {"aa": 10})])


def pair(a: float, b: float, **more) -> Load:
    return Load({"aa": RegionLoad(400, a, 4.0, **more), "bb": RegionLoad(400, b, 4.0)})


def test_only_the_excess_moves():
    best = optimum(pair(100.0, 50.0), PAIR)
    assert best.flows == pytest.approx(np.array([[92.0, 8.0], [0.0, 50.0]]))


def test_the_mean_round_trip_is_over_all_demand():
    assert optimum(pair(100.0, 50.0), PAIR).mean_rtt_ms == pytest.approx(8.0 * 10 / 150)


def test_demand_that_fits_nowhere_is_named():
    # Overloaded by 5 % opens the near ring only, and the neighbour is not in it.
    apart = Topology([Region("aa", {"bb": 90}), Region("bb", {"aa": 90})])
    best = optimum(pair(92.0 * 1.05, 10.0), apart)
    assert (best.feasible, best.excess) == (False, pytest.approx(4.6))


def test_pinned_demand_cannot_move():
    best = optimum(pair(100.0, 50.0, pinned=100.0), PAIR)
    assert (best.feasible, best.excess) == (False, pytest.approx(8.0))


def test_no_routing_beats_the_auditors_round_trip():
    ratios = []
    for seed in range(5):
        topology, load = random_world(12, np.random.default_rng(seed), load=0.95, skew=0.7)
        ratios.append(gap(offload(load, topology), load, topology).rtt_ratio)
    assert min(ratios) >= 1.0 - 1e-9


def test_the_table_keeps_as_much_at_home_as_the_optimum():
    topology, load = random_world(12, np.random.default_rng(9), load=0.95, skew=0.7)
    assert gap(offload(load, topology), load, topology).in_region_points <= 1e-6
