"""The routing table's algorithm: how much of each home region's demand goes where.

Everything is a rate in jobs/s; `flows[i][j]` goes from home i to region j.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from app.domain.routing.capacity import OVERLOAD_TOP
from app.domain.routing.load import Load, RegionLoad
from app.domain.routing.topology import Ring, Topology

CHUNK = 0.01  # of the hot region's limit; 5 % gave the same tables, 1 % plots more smoothly
SPARSE = 1e-9  # a flow below this part of all demand is rounding
LEAVES_HOME = 1e6  # ms; the price of taking demand out of a home that could serve it

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """The load that every region may carry. All in the order of `names`; rates in jobs/s."""

    names: tuple[str, ...]
    capacity: tuple[float, ...]  # at utilisation 1
    ceilings: tuple[float, ...]  # in force: raised together when all regions have too much
    reach: tuple[Ring, ...]  # how far each home's demand may go
    small: tuple[bool, ...]
    shed: float  # part of all demand that no routing can serve
    raised: bool = False  # ceilings are above the regions' own

    @property
    def carry(self) -> list[float]:
        return [u * c for u, c in zip(self.ceilings, self.capacity, strict=True)]


@dataclass(frozen=True)
class Shares:
    """A routing: flows between regions, and the limits it was made for."""

    limits: Limits
    flows: tuple[tuple[float, ...], ...]
    pinned: tuple[float, ...]

    def rows(self) -> dict[str, dict[str, float]]:
        """Per home, the part of its *movable* demand for every region that gets any; sums to 1.

        Pinned demand stays home without asking, so it must not be counted a second time.
        """
        names = self.limits.names
        rows = {}
        for i, home in enumerate(names):
            movable = [f - (self.pinned[i] if i == j else 0.0) for j, f in enumerate(self.flows[i])]
            total = sum(movable)
            rows[home] = (
                {names[j]: f / total for j, f in enumerate(movable) if f > 0.0}
                if total > 0.0
                else {home: 1.0}
            )
        return rows

    def utilisation(self) -> dict[str, float]:
        """Every region's load over its capacity; infinite where it has none."""
        carried = map(sum, zip(*self.flows, strict=True))
        return {
            name: load / c if c > 0.0 else (float("inf") if load > 0.0 else 0.0)
            for name, load, c in zip(self.limits.names, carried, self.limits.capacity, strict=True)
        }

    def over_ceiling(self) -> list[str]:
        """Regions that carry more than their ceiling allows; small pools do not count."""
        used = self.utilisation()
        rows = zip(self.limits.names, self.limits.ceilings, self.limits.small, strict=True)
        return [name for name, top, small in rows if not small and used[name] > top * (1 + 1e-6)]

    def in_region(self) -> float:
        """The part of all demand that stays home."""
        total = sum(map(sum, self.flows))
        return sum(row[i] for i, row in enumerate(self.flows)) / total if total else 1.0

    def mean_rtt_ms(self, topology: Topology) -> float:
        """Mean round trip between home and region, over all demand."""
        total = sum(map(sum, self.flows))
        cost = sum(
            flow * topology.rtt_ms(home, target)
            for home, row in zip(self.limits.names, self.flows, strict=True)
            for target, flow in zip(self.limits.names, row, strict=True)
            if flow > 0.0
        )
        return cost / total if total else 0.0


def limits_of(load: Load, topology: Topology) -> Limits:
    """Ceilings in force and every home's reach, with all demand at home."""
    names = tuple(topology.names)
    regions = [load.of(name) for name in names]
    capacity = tuple(r.capacity for r in regions)
    ceilings, shed = _in_force(regions)
    reach = tuple(topology.rings.reach(_ratio(r.demand, r.ceiling * r.capacity)) for r in regions)
    raised = any(u > r.ceiling for u, r in zip(ceilings, regions, strict=True))
    return Limits(names, capacity, ceilings, reach, tuple(r.small for r in regions), shed, raised)


def offload(load: Load, topology: Topology) -> Shares:
    """Move demand from overloaded regions to near ones, a chunk at a time.

    Ends when no region is over its ceiling, or nothing can move. A region's reach is fixed by its
    overload before any chunk moves: if it were read again inside the loop, a cooling region would
    lose the far ring half-way and strand 0-3 % of its demand.
    """
    limits = limits_of(load, topology)
    names, carry = limits.names, limits.carry
    regions = [load.of(name) for name in names]
    flows = [[0.0] * len(names) for _ in names]
    for i, region in enumerate(regions):
        flows[i][i] = region.demand  # capacity is ignored on purpose
    carried = [region.demand for region in regions]
    movable = [region.demand - region.pinned for region in regions]
    targets = _targets(load, topology, limits)
    nearest = [0] * len(names)  # targets only fill up, so those passed once stay passed
    tiny = SPARSE * max(load.demand, 1e-9)

    hot = [
        (-_heat(carried[i], carry[i], region.demand), i)
        for i, region in enumerate(regions)
        if not region.small and carried[i] > carry[i] + tiny
    ]
    heapify(hot)
    stuck = []
    while hot:
        _, i = heappop(hot)
        excess = min(carried[i] - carry[i], movable[i])
        if excess <= tiny:
            continue
        while nearest[i] < len(targets[i]) and (
            carry[targets[i][nearest[i]]] - carried[targets[i][nearest[i]]] <= tiny
        ):
            nearest[i] += 1
        if nearest[i] == len(targets[i]):
            stuck.append(i)
            continue
        target = targets[i][nearest[i]]
        chunk = CHUNK * (carry[i] or regions[i].demand)
        moved = min(excess, chunk, carry[target] - carried[target])
        flows[i][i] -= moved
        flows[i][target] += moved
        carried[i] -= moved
        carried[target] += moved
        movable[i] -= moved
        heappush(hot, (-_heat(carried[i], carry[i], regions[i].demand), i))
    pinned = tuple(region.pinned for region in regions)
    if stuck:
        limits, flows = _make_room(stuck, flows, pinned, limits, load, topology, tiny)
    for i, row in enumerate(flows):
        # Rounding must not leave a region that is down with a job per hour.
        if carry[i] == 0.0 and 0.0 < row[i] - pinned[i] <= 2 * tiny and max(row) > row[i]:
            row[row.index(max(row))] += row[i] - pinned[i]
            row[i] = pinned[i]
    return Shares(limits, tuple(map(tuple, flows)), pinned)


def in_region_bound(limits: Limits, demand: Sequence[float]) -> float:
    """The closed form `sum(min(D, U C)) / sum(D)`: no routing under the ceilings keeps more home.

    The transportation problem's optimum, if all demand fits and may go everywhere.
    """
    kept = sum(
        d if small else min(d, c)
        for d, c, small in zip(demand, limits.carry, limits.small, strict=True)
    )
    return kept / sum(demand) if sum(demand) else 1.0


def _ratio(demand: float, carry: float) -> float:
    if carry > 0.0:
        return demand / carry
    return float("inf") if demand > 0.0 else 0.0


def _heat(carried: float, carry: float, demand: float) -> float:
    """Load over limit; regions that are down come first, the fullest of them ahead."""
    return carried / carry if carry > 0.0 else 1e9 * (1.0 + carried / demand)


def _in_force(regions: Sequence[RegionLoad]) -> tuple[tuple[float, ...], float]:
    """Ceilings, and the part of all demand to shed.

    When all demand together exceeds all ceilings, the ceilings rise together: a region that went
    over alone would become its neighbours' next outage. An operator's cap does not rise.
    """
    # A small pool keeps all its demand, so neither belongs in the sum.
    large = [r for r in regions if not r.small]
    demand = sum(r.demand for r in large)
    own = tuple(r.ceiling for r in regions)

    def raised(r: RegionLoad, factor: float) -> float:
        top = OVERLOAD_TOP if r.cap is None else min(OVERLOAD_TOP, r.cap)
        return r.ceiling if r.small else max(r.ceiling, min(top, r.ceiling * factor))

    def room(factor: float) -> float:
        return sum(raised(r, factor) * r.capacity for r in large)

    # Without any capacity nothing is shed: jobs wait for workers, or for a small pool's.
    if demand <= room(1.0) or room(1.0) == 0.0:
        return own, 0.0
    most = OVERLOAD_TOP / min(r.ceiling for r in large if r.ceiling > 0.0)
    if demand > room(most):
        # Even so there is too much: equal relative overflow, and admission sheds the rest.
        over = demand / room(most)
        return tuple(
            r.ceiling if r.small else raised(r, most) * over for r in regions
        ), 1.0 - 1.0 / over
    low, high = 1.0, most
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if room(middle) >= demand else (middle, high)
    return tuple(raised(r, high) for r in regions), 0.0


def _targets(load: Load, topology: Topology, limits: Limits) -> list[list[int]]:
    """Per home, the regions its demand may be sent to, nearest first."""
    index = {name: i for i, name in enumerate(limits.names)}
    return [
        [
            index[target]
            for target in topology.by_round_trip(home)[1:]
            if limits.capacity[index[target]] > 0.0
            and not limits.small[index[target]]
            and topology.ring(home, target) <= limits.reach[i]
            and load.permits(home, target)
        ]
        for i, home in enumerate(limits.names)
    ]


def _make_room(
    stuck: Sequence[int],
    flows: list[list[float]],
    pinned: Sequence[float],
    limits: Limits,
    load: Load,
    topology: Topology,
    tiny: float,
) -> tuple[Limits, list[list[float]]]:
    """Place what the nearest-first loop left over, at the least cost to other homes.

    A near region may have filled up with demand that could also have gone elsewhere, so other
    overflow makes room first. Then, if the topology lets rings widen, the reach of stuck demand
    grows ring by ring: rings alone left a region over its ceiling in 45 of 100 random geographies
    whose regions together had a fifth to spare. Only then does demand that its own region could
    serve leave to make room for another's. No routing under this reach can place what remains
    (max-flow min-cut).
    """
    n = len(limits.names)
    flow, carry, held = np.array(flows), np.array(limits.carry), np.diag(pinned)
    rtt = np.array([[topology.rtt_ms(a, b) for b in limits.names] for a in limits.names])
    reach = list(limits.reach)

    def excess(hot: int) -> float:
        return float(min(flow[:, hot].sum() - carry[hot], flow[hot, hot] - pinned[hot]))

    def clear(displace: bool) -> None:
        price = np.full((n, n), np.inf)
        for i, targets in enumerate(_targets(load, topology, replace(limits, reach=tuple(reach)))):
            price[i, [i, *targets]] = rtt[i, [i, *targets]]
        for hot in stuck:
            for _ in range(4 * n * n):  # each path empties a flow or fills a region
                left = excess(hot)
                path = _cheapest_path(hot, flow - held, price, carry - flow.sum(axis=0), tiny)
                if left <= tiny or path is None or (path.displaces and not displace):
                    break
                moved = min(left, path.room)
                for i, a, b in path.moves:
                    flow[i, a] -= moved
                    flow[i, b] += moved

    clear(displace=False)
    for ring in (Ring.NEAR, Ring.FAR, Ring.ANY) if topology.rings.widen else ():
        left = [hot for hot in stuck if excess(hot) > tiny]
        for hot in left:
            reach[hot] = max(reach[hot], ring)
        if left:
            clear(displace=False)
    if any(excess(hot) > tiny for hot in stuck):
        clear(displace=True)
    flow[flow < tiny * 1e-3] = 0.0
    rows: list[list[float]] = flow.tolist()
    return replace(limits, reach=tuple(reach)), rows


@dataclass(frozen=True)
class _Path:
    """Moves (home, from, to) from a stuck region to one with room, and how much fits through."""

    moves: list[tuple[int, int, int]]
    room: float
    displaces: bool  # takes demand out of a home that could have served it


def _cheapest_path(
    start: int, movable: Matrix, price: Matrix, room: Matrix, tiny: float
) -> _Path | None:
    """The augmenting path of Edmonds and Karp 1972, by Bellman-Ford on round trips.

    `movable`: (home, region) flows that may leave where they are; `price`: (home, region) ms.
    A move costs its new round trip, not the difference: nearest-first flows may hold cycles of
    negative difference, on which a shortest path has no end.
    """
    n = len(room)
    step = np.repeat(price[:, None, :], n, axis=1)  # (home, from, to)
    others = np.arange(n) != start
    step[others, others, :] += LEAVES_HOME
    step[~(movable > tiny)] = np.inf
    owner, cost = step.argmin(axis=0), step.min(axis=0)  # (from, to)
    np.fill_diagonal(cost, np.inf)
    best = np.full(n, np.inf)
    best[start] = 0.0
    previous = np.full(n, -1)
    for _ in range(n):
        through = best[:, None] + cost
        cheapest = through.min(axis=0)
        better = cheapest < best - 1e-9
        if not better.any():
            break
        previous[better] = through.argmin(axis=0)[better]
        best[better] = cheapest[better]
    open_ = (room > tiny) & np.isfinite(best)
    open_[start] = False
    if not open_.any():
        return None
    end = b = int(np.where(open_, best, np.inf).argmin())
    moves: list[tuple[int, int, int]] = []
    while b != start:
        a = int(previous[b])
        moves.append((int(owner[a, b]), a, b))
        b = a
    fits = min(float(room[end]), *(float(movable[i, a]) for i, a, _ in moves))
    return _Path(moves[::-1], fits, bool(best[end] >= LEAVES_HOME))


def rows_applied(
    rows: Mapping[str, Mapping[str, float]], load: Load, limits: Limits
) -> dict[str, float]:
    """Utilisation of every region if `rows` routed this load; infinite where nothing works."""
    carried = dict.fromkeys(limits.names, 0.0)
    for home, region in load.regions.items():
        carried[home] += region.pinned
        for target, share in rows.get(home, {home: 1.0}).items():
            carried[target] += share * (region.demand - region.pinned)
    return {
        name: carried[name] / c if c > 0.0 else (float("inf") if carried[name] > 0.0 else 0.0)
        for name, c in zip(limits.names, limits.capacity, strict=True)
    }
