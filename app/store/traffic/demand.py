"""Waiting jobs and demand of every region, for the regional reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Text, bindparam, text

from app.domain.job.state import uuid7
from app.store.job.queue import Backlog, backlog_sql

COUNT_LIMIT = 10_000  # longer queues are reported as this long
# A job gets its id before its row commits, so the window ends this long ago in order to miss none.
SETTLE_S = 1.0

WAITING = text(
    f"""
    SELECT r.name, p.name, backlog.jobs, backlog.cost
    FROM unnest(:regions) AS r(name), unnest(:profiles) AS p(name),
         LATERAL ({backlog_sql(profile="p.name", region="r.name")}) AS backlog
    """
).bindparams(bindparam("regions", type_=ARRAY(Text)), bindparam("profiles", type_=ARRAY(Text)))

# Ids grow with time, so the last seconds are one walk at the end of the primary key.
SUBMITTED = text(
    """
    SELECT home_region, priority,
           policy = 'strict' OR allowed_regions = ARRAY[home_region] AS pinned, count(*)
    FROM jobs WHERE id >= :low AND id < :high GROUP BY 1, 2, 3
    """
)


@dataclass
class Demand:
    """Jobs/s submitted for one home region. `pinned`: the part that may not leave it."""

    total: float = 0.0
    pinned: float = 0.0
    by_priority: dict[int, float] = field(default_factory=dict)


def waiting(
    tx: Connection, regions: Sequence[str], profiles: Sequence[str]
) -> dict[str, dict[str, Backlog]]:
    """The waiting jobs of each region, by profile: up to COUNT_LIMIT each.

    Plan: ix_jobs_waiting.
    """
    found: dict[str, dict[str, Backlog]] = {name: {} for name in regions}
    for region, profile, count, cost in tx.execute(
        WAITING, {"regions": list(regions), "profiles": list(profiles), "most": COUNT_LIMIT}
    ):
        found[region][profile] = Backlog(count, float(cost))
    return found


def count(backlogs: Mapping[str, Backlog]) -> int:
    """All jobs of a region's backlogs."""
    return sum(backlog.jobs for backlog in backlogs.values())


def submitted(tx: Connection, now: float, window_s: float) -> Mapping[str, Demand]:
    """Submits accepted in the `window_s` that ended SETTLE_S ago, by home region.

    `now`: Unix time.
    """
    end = now - SETTLE_S

    def bound(at: float) -> UUID:
        return uuid7(int(at * 1000), 0)

    homes: dict[str, Demand] = {}
    rows = tx.execute(SUBMITTED, {"low": bound(end - window_s), "high": bound(end)})
    for home, priority, pinned, count in rows:
        demand, rate = homes.setdefault(home, Demand()), count / window_s
        demand.total += rate
        demand.pinned += rate if pinned else 0.0
        demand.by_priority[priority] = demand.by_priority.get(priority, 0.0) + rate
    return homes


def next_sequence(tx: Connection) -> int:
    """A number unique to each report of any region. A flush of Redis does not reset it."""
    return int(tx.execute(text("SELECT nextval('report_sequence')")).scalar_one())
