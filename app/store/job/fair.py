"""Start-time fair queueing over API keys, within one priority class of one queue.

Goyal, Vin and Cheng 1996. A job's virtual start is the virtual end of its owner's last job, or the
queue's present if the owner had nothing waiting. Jobs are taken in the order of their starts. The
start is stamped at submit, so placing stays a walk along one index.

The queue's present is the start of the job that is taken next; the algorithm uses the job in
service. When nothing waits it is the largest finish, as at the end of a busy period. So an owner
who used idle workers does not pay for it later, and an owner with 20,000 waiting jobs does not
delay anybody else's first job.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from app.store.fixed import Fixed
from app.store.job.queue import Backlog, backlog_sql, head_sql
from app.store.session import NO_WAIT

COUNT_LIMIT = 2000  # jobs ahead; counted at every submit


_PRESENT = f"""
    SELECT coalesce(
        ({head_sql(profile=":profile", region=":region", priority=":priority")}),
        (SELECT max(finish) FROM fair_tags
         WHERE profile = :profile AND region = :region AND priority = :priority),
        0) AS v
"""
_AHEAD = backlog_sql(
    profile=":profile",
    region=":region",
    only="(priority, vstart) <= (:priority, stamped.vstart)",
)
STAMP = Fixed(
    text(f"""
    WITH present AS ({_PRESENT}), stamped AS (
        INSERT INTO fair_tags AS t (owner_id, profile, region, priority, finish)
        SELECT :owner, :profile, :region, :priority, v + :cost FROM present
        WHERE {NO_WAIT}
        ON CONFLICT (owner_id, profile, region, priority)
        DO UPDATE SET finish = greatest(t.finish, excluded.finish - :cost) + :cost
        RETURNING finish - :cost AS vstart
    )
    SELECT vstart, ahead.jobs, ahead.cost FROM stamped, LATERAL ({_AHEAD}) AS ahead
    """)
)
PEEK = text(
    f"""
    WITH present AS ({_PRESENT}), stamped AS (
        SELECT greatest(v, (
            SELECT finish FROM fair_tags
            WHERE owner_id = :owner AND profile = :profile AND region = :region
              AND priority = :priority)) AS vstart
        FROM present
    )
    SELECT ahead.jobs, ahead.cost FROM stamped, LATERAL ({_AHEAD}) AS ahead
    """
)


@dataclass(frozen=True)
class Stamp:
    vstart: float
    ahead: Backlog | None  # jobs that are taken earlier; None: COUNT_LIMIT or more


def stamp(
    tx: Connection, owner_id: UUID, *, profile: str, region: str, priority: int, cost: float
) -> Stamp:
    """Give the owner's next job its virtual start, and count the jobs ahead of it.

    Runs before the job's transaction, and its commit does not wait for the disk: otherwise that
    transaction would hold the lock on the owner's row while it waits, and one owner's submits would
    queue behind each other. A stamp that is lost or not used moves the owner by one job.

    Plan: ix_jobs_waiting for the present and the count, ix_fair_tags_queue for the largest finish.
    """
    [(vstart, jobs, work)] = STAMP.rows(
        tx,
        {
            "owner": owner_id,
            "profile": profile,
            "region": region,
            "priority": priority,
            "cost": cost,
            "most": COUNT_LIMIT,
        },
    )
    return Stamp(vstart, _counted(jobs, work))


def peek(
    tx: Connection, owner_id: UUID, *, profile: str, region: str, priority: int
) -> Backlog | None:
    """The `ahead` that the owner's next stamp would have. Plan: as for `stamp`."""
    values = {"owner": owner_id, "profile": profile, "region": region, "priority": priority}
    return _counted(*tx.execute(PEEK, values | {"most": COUNT_LIMIT}).one())


def _counted(jobs: int, cost: float) -> Backlog | None:
    return Backlog(jobs, float(cost)) if jobs < COUNT_LIMIT else None
