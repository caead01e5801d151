"""The optimality gap of the table in force, by the linear program of `app.planning`.

The leader imports scipy when it needs it, in the controller's thread: other dispatchers never pay
for the import, and no placement waits the second that it takes.
"""

from dataclasses import replace
from importlib import import_module
from typing import Any

import structlog

from app.domain.routing.load import Load
from app.domain.routing.offload import Shares, limits_of
from app.domain.routing.table import Table
from app.domain.routing.topology import Ring, Topology

log = structlog.get_logger(__name__)


def gap_of(table: Table, load: Load, topology: Topology) -> Any | None:
    """`app.planning.lp.Gap` between the table and the best routing of `load`; None if unknown.

    Both route the smoothed demand within the table's reach.
    """
    try:
        return import_module("app.planning.lp").gap(_shares(table, load, topology), load, topology)
    except RuntimeError as error:
        log.warning("audit_failed", error=str(error))
        return None


def _shares(table: Table, load: Load, topology: Topology) -> Shares:
    limits = limits_of(load, topology)
    reach = tuple(Ring(table.reach[name]) for name in limits.names)
    limits = replace(limits, reach=reach)
    flows = []
    for home in limits.names:
        region, row = load.of(home), table.shares[home]
        flow = [row.get(name, 0.0) * (region.demand - region.pinned) for name in limits.names]
        flow[limits.names.index(home)] += region.pinned
        flows.append(tuple(flow))
    return Shares(limits, tuple(flows), tuple(load.of(name).pinned for name in limits.names))
