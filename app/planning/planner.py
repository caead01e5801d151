"""From a forecast to GPUs per region: enough for the own peak and for a neighbour's outage.

First, every region carries its own peak under its ceiling. Then, for every region k that may fail,
the regions that its demand may reach must have room for it (N + 1):

    min sum_j c_j   s.t.   c_j >= home_j,
                           sum_{j in reach(k)} (U_j c_j / S - D_j) >= D_k   for all k

U_j depends on c_j, so the program is solved repeatedly until both agree. The auditor then checks
the plan with each region removed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, inf, isfinite

import numpy as np
from scipy.optimize import linprog

from app.domain.routing.capacity import CEILING_TOP, ceiling, wait_quantile
from app.domain.routing.load import SMALL_POOL, Load, RegionLoad
from app.domain.routing.topology import Topology
from app.planning.lp import optimum

MAX_GPUS = 100_000  # in one region; a forecast that needs more must contain a typo
DISTANCE_COST = 1e-6  # GPUs per ms: among equally small plans, prefer spare capacity close by


class PlanError(ValueError):
    """The forecast cannot be planned for. The message is one sentence."""


class NoPlan(PlanError):
    """No number of GPUs meets the demand."""


@dataclass(frozen=True)
class Forecast:
    """Expected demand and requirements. `peak` in jobs/s per home region, times in seconds.

    `target_wait_s`: p99 wait of every pool at its peak; None: the table's own ceilings.
    `survive`: tolerate the loss of any one region. `max_rtt_ms`: how far its demand may then go.
    `allowed`: the regions a home's demand may ever go to.
    """

    peak: Mapping[str, float]
    service_s: float
    target_wait_s: float | None = None
    survive: bool = True
    max_rtt_ms: float = inf
    allowed: Mapping[str, frozenset[str]] | None = None


@dataclass(frozen=True)
class Overflow:
    """Where the demand of a failed region goes: jobs/s, and the round trip in ms."""

    home: str
    target: str
    per_s: float
    rtt_ms: float


@dataclass(frozen=True)
class RegionPlan:
    """`gpus` in total, of which `home_gpus` serve the region's own peak."""

    name: str
    peak: float
    gpus: int
    home_gpus: int
    ceiling: float
    load: float  # utilisation at the peak
    worst_load: float  # with the worst other region down


@dataclass(frozen=True)
class Plan:
    regions: tuple[RegionPlan, ...]
    overflow: tuple[Overflow, ...]  # for the outage of each region in turn

    @property
    def gpus(self) -> int:
        return sum(region.gpus for region in self.regions)


def make_plan(forecast: Forecast, topology: Topology) -> Plan:
    """The smallest plan found. Raises PlanError for a bad forecast, NoPlan if no plan exists."""
    _check(forecast, topology)
    names = topology.names
    home = [_home_gpus(forecast.peak[name], forecast) for name in names]
    gpus = list(home)
    if forecast.survive and sum(forecast.peak.values()) > 0.0:
        gpus = _survivors(home, forecast, topology)
    outages = list(_outages(gpus, forecast, topology)) if forecast.survive else []
    worst = dict.fromkeys(names, 0.0)
    for _, loads, _ in outages:
        worst = {name: max(worst[name], loads[name]) for name in names}
    regions = tuple(
        RegionPlan(
            name,
            peak=forecast.peak[name],
            gpus=c,
            home_gpus=own,
            ceiling=_ceiling(c, forecast),
            load=forecast.peak[name] * forecast.service_s / c if c else 0.0,
            worst_load=worst[name],
        )
        for name, c, own in zip(names, gpus, home, strict=True)
    )
    return Plan(regions, tuple(flow for _, _, flows in outages for flow in flows))


def _check(forecast: Forecast, topology: Topology) -> None:
    for name in forecast.peak:
        if name not in topology:
            raise PlanError(f"The forecast names unknown region {name!r}.")
    for name in topology.names:
        if name not in forecast.peak:
            raise PlanError(f"The forecast does not mention region {name!r}.")
        if not (isfinite(forecast.peak[name]) and forecast.peak[name] >= 0.0):
            raise PlanError(f"The peak of {name} must be 0 or more jobs per second.")
    if not (isfinite(forecast.service_s) and forecast.service_s > 0.0):
        raise PlanError("The service time must be more than 0 seconds.")
    if forecast.target_wait_s is not None and not forecast.target_wait_s > 0.0:
        raise PlanError("The target wait must be more than 0 seconds.")
    if forecast.survive and len(topology.names) < 2:
        raise NoPlan("With only one region, nothing can take over during its outage.")


def _ceiling(gpus: int, forecast: Forecast) -> float:
    """The table's ceiling, or the utilisation that meets the target wait, whichever is lower."""
    own = ceiling(gpus)
    target = forecast.target_wait_s
    if target is None or gpus < 1:
        return own

    def meets_target(rho: float) -> bool:
        return wait_quantile(gpus, rho * gpus, forecast.service_s) <= target

    if meets_target(own):
        return own
    low, high = 0.0, own
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if meets_target(middle) else (low, middle)
    return low


def _home_gpus(peak: float, forecast: Forecast) -> int:
    """The smallest pool that carries this peak under its ceiling; 0 without a peak."""
    if peak == 0.0:
        return 0
    offered = peak * forecast.service_s
    if offered > MAX_GPUS * CEILING_TOP:
        raise PlanError(f"A peak of {peak:g} jobs/s needs more than {MAX_GPUS} GPUs in one region.")
    low, high = 0, max(2, ceil(offered) * 4)
    while _ceiling(high, forecast) * high < offered:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if _ceiling(middle, forecast) * middle >= offered else (middle, high)
        )
    return high


def _may_reach(home: str, target: str, forecast: Forecast, topology: Topology) -> bool:
    allowed = (forecast.allowed or {}).get(home)
    return (
        home != target
        and topology.rtt_ms(home, target) <= forecast.max_rtt_ms
        and (allowed is None or target in allowed)
    )


def _survivors(home: list[int], forecast: Forecast, topology: Topology) -> list[int]:
    names = topology.names
    reach = np.array(
        [[_may_reach(a, b, forecast, topology) for b in names] for a in names], dtype=float
    )
    peak = np.array([forecast.peak[name] for name in names])
    for i, name in enumerate(names):
        if peak[i] > 0.0 and not reach[i].any():
            raise NoPlan(f"No other region may take the demand of {name!r}.")
    rtt = np.array([[topology.rtt_ms(a, b) for b in names] for a in names])
    price = 1.0 + DISTANCE_COST * (peak @ (rtt * reach)) / max(float(peak.sum()), 1e-9)
    needed = peak + reach @ peak
    gpus = [max(c, 1) for c in home]
    # Ceilings rise with size, so sizes only fall from here on and settle after a few rounds.
    for _ in range(20):
        per_gpu = np.array([_ceiling(c, forecast) for c in gpus]) / forecast.service_s
        # A region without demand needs no cover; its row would only constrain the others.
        rows = peak > 0.0
        answer = linprog(
            price,
            A_ub=-(reach * per_gpu)[rows],
            b_ub=-needed[rows],
            bounds=[(c, MAX_GPUS) for c in home],
            method="highs",
        )
        if not answer.success:
            raise NoPlan(f"No number of GPUs below {MAX_GPUS} per region survives an outage.")
        settled = [ceil(c - 1e-6) for c in answer.x]
        # A pool below SMALL_POOL takes no shares, so it cannot cover for another region.
        settled = [
            max(c, SMALL_POOL) if c > own else c for c, own in zip(settled, home, strict=True)
        ]
        if settled == gpus:
            break
        gpus = settled
    while (short := _first_short(gpus, forecast, topology)) is not None:
        options = [j for j in range(len(names)) if reach[short, j]]
        gpus[max(options, key=lambda j: (gpus[j] >= SMALL_POOL, -rtt[short, j]))] += 1
        if max(gpus) > MAX_GPUS:
            raise NoPlan(f"No number of GPUs below {MAX_GPUS} per region survives an outage.")
    return gpus


def _first_short(gpus: list[int], forecast: Forecast, topology: Topology) -> int | None:
    """The first region whose outage the others cannot carry."""
    for down, name in enumerate(topology.names):
        room = sum(
            max(0.0, _ceiling(c, forecast) * c / forecast.service_s - forecast.peak[other])
            for other, c in zip(topology.names, gpus, strict=True)
            if _may_reach(name, other, forecast, topology) and c >= SMALL_POOL
        )
        if forecast.peak[name] > room * (1 + 1e-9):
            return down
    return None


def _outages(
    gpus: list[int], forecast: Forecast, topology: Topology
) -> Iterator[tuple[str, dict[str, float], list[Overflow]]]:
    """Per outage of one region: the others' utilisation, and where its demand goes, by the auditor.

    Raises NoPlan if the auditor finds that some demand does not fit after all.
    """
    names = topology.names
    reachable = {
        a: frozenset(b for b in names if _may_reach(a, b, forecast, topology)) for a in names
    }
    for down in names:
        if forecast.peak[down] == 0.0:
            continue
        regions = {
            name: RegionLoad(
                ready=0 if name == down else c,
                demand=forecast.peak[name],
                service_s=forecast.service_s,
                cap=_ceiling(c, forecast),
            )
            for name, c in zip(names, gpus, strict=True)
        }
        best = optimum(Load(regions, reachable), topology)
        if not best.feasible:
            raise NoPlan(f"Without {down}, {best.excess:.1f} jobs/s have nowhere to go.")
        loads = best.flows.sum(axis=0) * forecast.service_s / np.maximum(gpus, 1)
        yield (
            down,
            dict(zip(names, loads.tolist(), strict=True)),
            [
                Overflow(down, name, float(flow), topology.rtt_ms(down, name))
                for name, flow in zip(names, best.flows[names.index(down)], strict=True)
                if flow > 1e-6 and name != down
            ],
        )
