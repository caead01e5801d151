"""The auditor: the best possible routing, as a linear program.

The transportation problem: min sum_ij w_ij x_ij, sum_j x_ij = D_i, sum_i x_ij <= U_j C_j, x >= 0.
Solved by scipy's HiGHS; 30 regions take about 20 ms.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array

from app.domain.routing.load import Load
from app.domain.routing.offload import Limits, Shares, limits_of
from app.domain.routing.topology import Topology

SLACK_PRICE = 1e4  # per job/s over a ceiling; far above any round trip, so a last resort


@dataclass(frozen=True)
class Optimum:
    """The best routing under rings, ceilings and allow-lists.

    `excess` is the demand in jobs/s that no routing can place under the ceilings. The other
    figures describe the routing that places the rest.
    """

    feasible: bool
    excess: float
    in_region: float
    mean_rtt_ms: float
    flows: NDArray[np.float64]  # (regions, regions), jobs/s


def optimum(load: Load, topology: Topology, limits: Limits | None = None) -> Optimum:
    """The routing with the smallest mean round trip. Demand that fits nowhere stays at home.

    Small pools keep their demand, as in the routing table. Raises RuntimeError if HiGHS fails.
    """
    limits = limits or limits_of(load, topology)
    names, n = limits.names, len(limits.names)
    demand = np.array([load.of(name).demand for name in names])
    pinned = np.array([load.of(name).pinned for name in names])
    pairs = [
        (i, j)
        for i, home in enumerate(names)
        for j, target in enumerate(names)
        if i == j
        or (
            topology.ring(home, target) <= limits.reach[i]
            and load.permits(home, target)
            and limits.capacity[j] > 0.0
            and not limits.small[i]
            and not limits.small[j]
        )
    ]
    home, target = np.array(pairs).T
    over = np.arange(n)  # one slack per region: its load above the ceiling
    price = np.concatenate(
        [[topology.rtt_ms(names[i], names[j]) for i, j in pairs], np.full(n, SLACK_PRICE)]
    )
    columns = np.arange(len(pairs))
    rows_out = csr_array((np.ones(len(pairs)), (home, columns)), shape=(n, len(price)))
    rows_in = csr_array(
        (
            np.concatenate([np.ones(len(pairs)), -np.ones(n)]),
            (np.concatenate([target, over]), np.concatenate([columns, len(pairs) + over])),
        ),
        shape=(n, len(price)),
    )
    carry = np.where(limits.small, np.inf, limits.carry)
    lower = np.concatenate([np.where(home == target, pinned[home], 0.0), np.zeros(n)])
    answer = linprog(
        price,
        A_ub=rows_in[np.isfinite(carry)],
        b_ub=carry[np.isfinite(carry)],
        A_eq=rows_out,
        b_eq=demand,
        bounds=np.stack([lower, np.full(len(price), np.inf)], axis=1),
        method="highs",
    )
    if not answer.success:
        raise RuntimeError(f"HiGHS found no routing: {answer.message}")
    flows = np.zeros((n, n))
    flows[home, target] = answer.x[: len(pairs)]
    excess = float(answer.x[len(pairs) :].sum())
    total = float(demand.sum())
    cost = float(answer.x[: len(pairs)] @ price[: len(pairs)])
    return Optimum(
        feasible=excess <= 1e-6 * max(total, 1e-9),
        excess=excess,
        in_region=float(np.trace(flows)) / total if total else 1.0,
        mean_rtt_ms=cost / total if total else 0.0,
        flows=flows,
    )


@dataclass(frozen=True)
class Gap:
    """How far a routing is from the optimum. An optimal routing has 0 points and a ratio of 1."""

    in_region_points: float  # percentage points more that the optimum keeps at home
    rtt_ratio: float  # our mean round trip over the optimum's


def gap(shares: Shares, load: Load, topology: Topology) -> Gap:
    """Compare with the optimum under the same limits."""
    best = optimum(load, topology, shares.limits)
    ours = shares.mean_rtt_ms(topology)
    ratio = ours / best.mean_rtt_ms if best.mean_rtt_ms > 1e-9 else 1.0
    return Gap(100.0 * (best.in_region - shares.in_region()), ratio)
