"""Routing tables of random geographies compared with the optimum."""

import time
from dataclasses import dataclass

import numpy as np

from app.domain.routing.offload import in_region_bound, limits_of, offload
from app.planning.geography import random_world
from app.planning.lp import gap, optimum


@dataclass(frozen=True)
class Routing:
    """The table of one random geography compared with the optimum."""

    gap_points: float  # percentage points below the closed form
    rtt_ratio: float
    over: int  # regions over their ceiling although the program finds room for everything
    ms: float


def routings(count: int) -> list[Routing]:
    """Tables for 30 regions at 94 % of all ceilings, with demand unlike capacity."""
    results = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        topology, load = random_world(30, rng, load=0.9375, skew=0.5)
        start = time.thread_time()
        shares = offload(load, topology)
        ms = (time.thread_time() - start) * 1000
        demand = [load.of(name).demand for name in topology.names]
        bound = in_region_bound(shares.limits, demand)
        fits = optimum(load, topology, limits_of(load, topology)).feasible
        results.append(
            Routing(
                gap_points=abs(100.0 * (bound - shares.in_region())),
                rtt_ratio=gap(shares, load, topology).rtt_ratio,
                over=len(shares.over_ceiling()) if fits else 0,
                ms=ms,
            )
        )
    return results
