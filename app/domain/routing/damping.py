"""From one routing table to the next: smoothed demand, a dead band, half steps. Outages bypass it.

Undamped, noise alone changes a table at every cycle (353 times an hour at a home load of 0.9);
together these measures bring that to 20-60.
"""

from collections.abc import Mapping
from math import sqrt

from app.domain.routing.capacity import ewma
from app.domain.routing.load import Load
from app.domain.routing.offload import Limits, offload, rows_applied
from app.domain.routing.table import DEVIATIONS, NOISE_S, Table, band, make_table
from app.domain.routing.topology import Topology

PERIOD_S = 10.0
RISE_HALF_LIFE_S, FALL_HALF_LIFE_S = 30.0, 60.0  # rising demand counts sooner
LEAVE = 0.03  # below the ceiling by the band plus this, demand comes home
STEP = 0.5  # of the way to the wanted table, per cycle
MINIMUM_CHANGE = 0.02  # of a home's demand; less is not worth a new table
PACE = 0.10  # a share may grow by this much per cycle

Rows = Mapping[str, Mapping[str, float]]


def smooth(
    previous: Mapping[str, float], sample: Mapping[str, float], elapsed_s: float
) -> dict[str, float]:
    """Demand per region, jobs/s: EWMA with a shorter memory upwards than downwards."""
    return {
        name: ewma(
            previous.get(name),
            value,
            elapsed_s,
            RISE_HALF_LIFE_S if value > previous.get(name, value) else FALL_HALF_LIFE_S,
        )
        for name, value in sample.items()
    }


def next_table(
    previous: Table | None,
    load: Load,
    topology: Topology,
    now: float,
    gap_points: float | None = None,
) -> Table:
    """The table to publish for `load`, whose demand is smoothed. Check its invariants first.

    Its version is one more than the last; `changed` says whether its shares differ.
    """
    wanted = offload(load, topology)
    rows = wanted.rows()
    if previous is not None:
        rows = damp(previous.shares, rows, load, wanted.limits)
    return make_table(
        rows,
        wanted.limits,
        load,
        version=previous.version + 1 if previous else 1,
        now=now,
        gap_points=gap_points,
        changed=previous is None or not _same(rows, previous.shares),
    )


def damp(old: Rows, wanted: Rows, load: Load, limits: Limits) -> dict[str, dict[str, float]]:
    """Rows between `old` and `wanted`: every home that has cause moves half-way.

    An outage or a region past 1 (while not all are) takes the wanted rows at once.
    """
    if set(old) != set(wanted):
        return _plain(wanted)
    before = rows_applied(old, load, limits)
    ceilings = dict(zip(limits.names, limits.ceilings, strict=True))
    bands = {
        name: band(before[name], capacity)
        for name, capacity in zip(limits.names, limits.capacity, strict=True)
    }
    if not limits.raised and any(
        before[name] > 1.0 and not small and not _same_row(old[name], wanted[name])
        for name, small in zip(limits.names, limits.small, strict=True)
    ):
        return _plain(wanted)
    # Also when ceilings are raised: half a step would leave half of the jobs in a dead region, or
    # in one that they may no longer use.
    if any(
        (load.of(target).capacity <= 0.0 or (target != home and not load.permits(home, target)))
        for home, row in old.items()
        for target, share in row.items()
        if share > wanted[home].get(target, 0.0) + 1e-9
    ):
        return _plain(wanted)
    rows = {
        home: _step(row, wanted[home])
        if _has_cause(home, row, wanted[home], load.of(home).demand, before, ceilings, bands)
        else dict(row)
        for home, row in old.items()
    }
    after = rows_applied(rows, load, limits)
    targets = {t for home, row in rows.items() for t, share in row.items() if t != home and share}
    if any(after[t] > ceilings[t] + bands[t] for t in targets):
        return _plain(wanted)
    return rows


def _has_cause(
    home: str,
    old: Mapping[str, float],
    wanted: Mapping[str, float],
    demand: float,
    load: Mapping[str, float],
    ceilings: Mapping[str, float],
    bands: Mapping[str, float],
) -> bool:
    change = max(abs(wanted.get(r, 0.0) - old.get(r, 0.0)) for r in {*old, *wanted})
    noise = DEVIATIONS / sqrt(max(demand, 1e-9) * NOISE_S)  # in parts of the demand
    if change < max(MINIMUM_CHANGE, min(noise, 5.0 * MINIMUM_CHANGE)):
        return False
    if any(share > 0.0 and load[r] > ceilings[r] + bands[r] for r, share in old.items()):
        return True
    # Shed to the ceiling, release only below it: releasing at the ceiling would flap.
    return old.get(home, 0.0) < 1.0 and load[home] < ceilings[home] - bands[home] - LEAVE


def _step(old: Mapping[str, float], wanted: Mapping[str, float]) -> dict[str, float]:
    moves = {r: STEP * (wanted.get(r, 0.0) - old.get(r, 0.0)) for r in {*old, *wanted}}
    most = max(moves.values(), default=0.0)
    scale = min(1.0, PACE / most) if most > 0.0 else 1.0
    row = {region: old.get(region, 0.0) + scale * move for region, move in moves.items()}
    kept = {region: share for region, share in sorted(row.items()) if share > 1e-4}
    total = sum(kept.values())
    return {region: share / total for region, share in kept.items()}


def _plain(rows: Rows) -> dict[str, dict[str, float]]:
    return {home: dict(row) for home, row in rows.items()}


def _same(a: Rows, b: Rows) -> bool:
    return set(a) == set(b) and all(_same_row(a[home], b[home]) for home in a)


def _same_row(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return all(abs(a.get(r, 0.0) - b.get(r, 0.0)) <= 1e-9 for r in {*a, *b})
