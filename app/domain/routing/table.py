"""The routing table as it is published: shares, spare workers, invariants, and how it ages."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from math import floor, isfinite, sqrt
from typing import Any

from app.domain.routing.load import SMALL_POOL, Load, RegionLoad
from app.domain.routing.offload import Limits, rows_applied
from app.domain.routing.topology import Topology
from app.domain.unreadable import UNREADABLE

VALID_S = 60.0
NORMAL_S, HOME_FIRST_S = 30.0, 120.0  # ages at which a table counts for less, then for nothing
DEMAND_JUMP = 3.0  # total demand may change by this factor between tables
BAND_LEAST, BAND_MOST = 0.02, 0.05  # a damped table may keep a target over its ceiling by this
DEVIATIONS = 2.5  # of the demand's estimate: a change that means something
NOISE_S = 130.0  # the span of arrivals that smoothed demand averages: 2 x 45 s / ln 2
# JSON has no infinity; a region that is down carries whatever could not leave it.
NO_CAPACITY = 1e9
LOCAL_SHARE = 0.20  # without a table, of own demand to any one neighbour


class TableRefused(ValueError):
    """One sentence; `reason` is the label of the metric that counts refusals."""

    def __init__(self, reason: str, sentence: str):
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Table:
    """Where every home region's demand goes. `created_at` is Unix time, rates are jobs/s.

    `shares[home][region]` is a part of the home's movable demand; absent regions get none.
    `spare` counts the workers of a region that overflow may take, beyond its shares.
    """

    version: int
    created_at: float
    shares: Mapping[str, Mapping[str, float]]
    reach: Mapping[str, int]  # a Ring per home
    ceilings: Mapping[str, float]
    load: Mapping[str, float]  # planned utilisation; NO_CAPACITY: nothing to use
    ready: Mapping[str, int]
    spare: Mapping[str, int]
    demand: float = 0.0  # of all regions, as it was routed
    shed: float = 0.0  # part of all demand that admission has to refuse
    valid_for_s: float = VALID_S
    gap_points: float | None = None  # the auditor's: in-region points short of the optimum
    overload: bool = False  # ceilings are raised: all regions together have too much
    changed: bool = field(default=True, compare=False)  # unlike the table before it

    def has_capacity(self, name: str) -> bool:
        """Whether the region could do any work when the table was made."""
        return self.ready[name] > 0 and self.load[name] < NO_CAPACITY

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Table":
        """Raises TableRefused if this is not a table's JSON."""
        try:
            raw = json.loads(text)
            # A newer release may write more fields, and an older one fewer.
            return cls(**{name: read(raw[name]) for name, read in _CHECKED.items() if name in raw})
        except UNREADABLE as error:
            raise TableRefused(
                "unreadable", f"This is no routing table: {type(error).__name__}."
            ) from error


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise TypeError("not a number")
    return float(value)


def _numbers(value: Any) -> dict[str, float]:
    return {str(name): _number(number) for name, number in value.items()}


def _counts(value: Any) -> dict[str, int]:
    return {name: int(number) for name, number in _numbers(value).items()}


_CHECKED: dict[str, Any] = {
    "version": lambda value: int(_number(value)),
    "created_at": _number,
    "shares": lambda value: {str(home): _numbers(row) for home, row in value.items()},
    "reach": _counts,
    "ceilings": _numbers,
    "load": _numbers,
    "ready": _counts,
    "spare": _counts,
    "demand": _number,
    "shed": _number,
    "valid_for_s": _number,
    "gap_points": lambda value: None if value is None else _number(value),
    "overload": bool,
    "changed": bool,
}


def band(load: float, capacity: float) -> float:
    """The change of utilisation that means something: DEVIATIONS times its estimate's noise.

    Smoothed demand is Poisson counts over about NOISE_S. A fixed 0.02 is one deviation of 20
    jobs/s; in a world of 30 regions some row of the table then changed at every third cycle.
    """
    if capacity <= 0.0:
        return BAND_LEAST
    return min(BAND_MOST, max(BAND_LEAST, DEVIATIONS * sqrt(max(load, 0.0) / (capacity * NOISE_S))))


def make_table(
    rows: Mapping[str, Mapping[str, float]],
    limits: Limits,
    load: Load,
    *,
    version: int,
    now: float,
    gap_points: float | None = None,
    changed: bool = True,
) -> Table:
    """The table that publishes `rows`, with everything else that dispatchers need."""
    used = rows_applied(rows, load, limits)
    spare = {}
    for name, ceiling, capacity in zip(limits.names, limits.ceilings, limits.capacity, strict=True):
        ready = load.of(name).ready if capacity > 0.0 else 0
        # A small pool lends whatever is idle; a claim finds out.
        top = 1.0 if ready < SMALL_POOL else min(1.0, ceiling)
        # Observed, not planned: smoothed demand stays high for a minute after a burst, and jobs
        # were refused while workers were idle. Senders count their overflow since then.
        taken = load.of(name).busy
        spare[name] = max(0, floor(top * ready - taken + 1e-9)) if ready else 0
    return Table(
        version=version,
        created_at=now,
        shares=rows,
        reach={name: int(ring) for name, ring in zip(limits.names, limits.reach, strict=True)},
        ceilings=dict(zip(limits.names, limits.ceilings, strict=True)),
        load={name: min(value, NO_CAPACITY) for name, value in used.items()},
        ready={name: load.of(name).ready for name in limits.names},
        spare=spare,
        demand=load.demand,
        shed=limits.shed,
        gap_points=gap_points,
        overload=limits.raised,
        changed=changed,
    )


def check_invariants(
    table: Table,
    load: Load,
    topology: Topology,
    *,
    previous: Table | None = None,
    fresh: int | None = None,
    exact: bool = False,
) -> None:
    """Raise TableRefused if publishing `table` could do harm; the old one then stays in force.

    `exact`: allow no target to exceed its ceiling, not even by a band, as in an undamped table.
    `fresh`: how many regions reported recently; below half, the load of the others is a guess.
    """
    names = set(topology.names)
    if set(table.shares) != names:
        raise TableRefused("regions", "The table's regions are not those of the deployment.")
    for home, row in table.shares.items():
        if not all(0.0 <= share <= 1.0 + 1e-9 for share in row.values()):
            raise TableRefused("row", f"A share of {home} is not between 0 and 1.")
        if not abs(sum(row.values()) - 1.0) <= 1e-6:
            raise TableRefused("row", f"The shares of {home} do not add up to 1.")
        for target, share in row.items():
            if target == home or share <= 0.0:
                continue
            if target not in names:
                raise TableRefused("regions", f"{home} sends jobs to unknown region {target!r}.")
            if not load.permits(home, target):
                raise TableRefused("residency", f"Jobs of {home} may not go to {target}.")
            if load.of(target).capacity <= 0.0:
                raise TableRefused("dead_target", f"{home} sends jobs to {target}, which is down.")
            slack = 0.0 if exact else band(table.load[target], load.of(target).capacity)
            if table.load[target] > table.ceilings[target] * (1 + 1e-6) + slack:
                raise TableRefused(
                    "target_over_ceiling",
                    f"{home} sends jobs to {target}, which would be over its ceiling.",
                )
    if fresh is not None and 2 * fresh < len(names):
        raise TableRefused("stale_reports", f"Only {fresh} of {len(names)} regions reported.")
    if previous is not None:
        if table.version <= previous.version:
            raise TableRefused("version", f"Version {table.version} is not a newer one.")
        # Below one job/s in total, three jobs instead of one are not an alarm.
        low, high = sorted((max(table.demand, 1.0), max(previous.demand, 1.0)))
        if high > DEMAND_JUMP * low:
            raise TableRefused(
                "demand_jump",
                f"Total demand went from {previous.demand:.1f} to {table.demand:.1f} jobs/s.",
            )


def check_published(table: Table, topology: Topology, *, previous: Table | None) -> None:
    """Raise TableRefused if a published table contradicts itself, or is older than `previous`.

    A reader has no load to compare a table with, so the table's own figures must allow for its
    targets.
    """
    names = set(topology.names)
    for part in (table.ready, table.load, table.ceilings, table.reach, table.spare):
        if set(part) != names:
            raise TableRefused("regions", "The table's regions are not those of the deployment.")
    # A tiny capacity gives the widest band: whoever made the table knew the true one.
    load = Load(
        {name: RegionLoad(n, 0.0, 1.0, cost=1e6) for name, n in table.ready.items() if n > 0}
    )
    check_invariants(table, load, topology)
    if previous is not None and table.version < previous.version:
        raise TableRefused("version", f"Version {table.version} is not a newer one.")


class Mode(StrEnum):
    """How much a dispatcher may still believe its table."""

    NORMAL = "normal"
    HOME_FIRST = "home_first"  # shares only for what home refuses
    LOCAL = "local"  # home, then the others by round trip, within LOCAL_SHARE


def mode(age_s: float | None) -> Mode:
    """The stale-table ladder. `age_s`: seconds since the table was made; None without a table.

    Each rung is slower; none stops placement.
    """
    if age_s is None or age_s > HOME_FIRST_S:
        return Mode.LOCAL
    return Mode.NORMAL if age_s <= NORMAL_S else Mode.HOME_FIRST


def local_spare(demand: float, service_s: float) -> int:
    """Workers that one home may occupy in one other region when no table says what is spare."""
    return max(1, floor(LOCAL_SHARE * demand * service_s))
