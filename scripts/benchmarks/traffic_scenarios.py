"""The scenarios of `scripts/bench traffic`, and the arms compared in them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from app.domain.routing.capacity import ceiling
from app.planning import traces
from app.planning.arms import HomeOnly, Ours, Polling, RandomGlobal
from app.planning.arrivals import Arrivals, burst, poisson, replayed, together
from app.planning.geography import known
from app.planning.outcome import Record
from app.planning.planner import Forecast, make_plan
from app.planning.simulator import Arm, Outage, Scenario, Simulation

SERVICE_S = 4.0
BURST_AT_S, BURST_S = 100.0, 20.0
KILL_AT_S, BACK_AT_S = 150.0, 330.0
DEAD_FROM_S, DEAD_S = 300.0, 600.0

ARMS: dict[str, Callable[[Simulation], Arm]] = {
    "ours": Ours,
    "polling + backoff": partial(Polling, backoff=True),
    "polling": Polling,
    "nearest only": HomeOnly,
    "random global": RandomGlobal,
}


@dataclass(frozen=True)
class Run:
    scenario: Scenario
    record: Record


def run(scenario: Scenario, arm: str = "ours") -> Run:
    return Run(scenario, Simulation(scenario, ARMS[arm]).run())


def _poisson(rates: Mapping[str, float], duration_s: float, seed: int) -> Arrivals:
    rng = np.random.default_rng(seed)
    return together({name: poisson(rate, duration_s, rng) for name, rate in rates.items()})


def at_ceiling(duration_s: float, seed: int = 1) -> Scenario:
    """Ten pools of 16 to 256, each loaded to its own ceiling, with exponential service: the worst
    case for which the ceilings are designed."""
    topology = known()
    sizes = (16, 24, 32, 48, 64, 96, 128, 192, 256, 16)
    gpus = dict(zip(topology.names, sizes, strict=True))
    rates = {name: ceiling(c) * c / SERVICE_S for name, c in gpus.items()}
    arrivals = _poisson(rates, duration_s, seed)
    return Scenario(topology, gpus, arrivals, duration_s, service_scv=1.0, seed=seed)


def overload(duration_s: float, seed: int = 2) -> Scenario:
    """1.3 times the capacity of all five regions, unevenly spread; nobody resubmits."""
    topology = known(5)
    gpus = dict(zip(topology.names, (120, 60, 100, 40, 80), strict=True))
    weight = dict(zip(topology.names, (1.5, 0.9, 0.8, 1.0, 1.1), strict=True))
    total = sum(gpus.values()) / SERVICE_S
    scale = 1.3 * total / sum(weight[n] * gpus[n] for n in gpus)
    rates = {name: scale * weight[name] * gpus[name] for name in gpus}
    return Scenario(topology, gpus, _poisson(rates, duration_s, seed), duration_s, seed=seed)


def burst_of_resubmitters(duration_s: float, seed: int = 3) -> Scenario:
    """200 GPUs at 0.85, 20 s of triple demand, and a router that makes 250 attempts/s."""
    topology = known(1)
    name = topology.names[0]
    rng = np.random.default_rng(seed)
    times = burst(
        *(0.85 * 200 / SERVICE_S, duration_s, rng),
        start_s=BURST_AT_S,
        length_s=BURST_S,
        factor=3.0,
    )
    return Scenario(
        *(topology, {name: 200}, together({name: times}), duration_s),
        router_per_s=250.0,
        resubmits=50,
        deadline_s=60.0,
        seed=seed,
    )


def outage(duration_s: float, *, scale: float = 1.0, seed: int = 4) -> Scenario:
    """A fleet planned for N+1 loses its busiest region for three minutes at its peak."""
    topology = known(6)
    peak = dict(zip(topology.names, (24.0, 12.0, 16.0, 8.0, 18.0, 14.0), strict=True))
    peak = {name: rate * scale for name, rate in peak.items()}
    planned = make_plan(Forecast(peak, SERVICE_S), topology)
    gpus = {region.name: region.gpus for region in planned.regions}
    return Scenario(
        *(topology, gpus, _poisson(peak, duration_s, seed), duration_s),
        outages=[Outage("us-east", KILL_AT_S, BACK_AT_S)],
        seed=seed,
    )


def controller_dead(seed: int = 5) -> Scenario:
    """A region with 20 % too much demand among others with room; no new table for ten minutes."""
    topology = known(6)
    gpus = dict.fromkeys(topology.names, 64)
    overload = (1.2, 0.7, 0.75, 0.8, 0.85, 0.7)
    rates = {
        name: x * ceiling(64) * 64 / SERVICE_S
        for name, x in zip(topology.names, overload, strict=True)
    }
    duration_s = DEAD_FROM_S + DEAD_S + 60.0
    return Scenario(
        *(topology, gpus, _poisson(rates, duration_s, seed), duration_s),
        controller_dead=(DEAD_FROM_S, DEAD_FROM_S + DEAD_S),
        seed=seed,
    )


def replay(path: Path, duration_s: float, seed: int = 6) -> Scenario:
    """A public trace's bursts at a mean load of 0.8; each region replays a different part of it."""
    trace = traces.azure(path)
    topology = known(6)
    gpus = dict.fromkeys(topology.names, 96)
    rng = np.random.default_rng(seed)
    span = float(trace.times[-1])
    streams = {}
    for i, name in enumerate(topology.names):
        shifted = np.sort((trace.times + i * span / 6) % span)
        streams[name] = replayed(shifted, 0.8 * 96 / SERVICE_S, duration_s, rng)
    return Scenario(
        *(topology, gpus, together(streams), duration_s),
        resubmits=2,
        router_per_s=1000.0,
        seed=seed,
    )
