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
from app.store.job.queue import Backlog, backlog_sql, head_sql, last_finish_sql
from app.store.session import NO_WAIT

COUNT_LIMIT = 1000  # jobs ahead; counted at every submit, a microsecond or two each


# An owner's mark is the last of its entries in pk_fair_marks. A mark that moves leaves its old
# entry below, where no look-up passes. A unique key without `finish` would pass all of those that
# an open snapshot keeps.
_OF_QUEUE = {"profile": ":profile", "region": ":region", "priority": ":priority"}
_QUEUE = "profile = :profile AND region = :region AND priority = :priority"
_PRESENT = f"""
    SELECT greatest(
        coalesce(
            ({head_sql(**_OF_QUEUE)}),
            ({last_finish_sql(**_OF_QUEUE)}),
            0),
        (SELECT next_vstart FROM queue_floors WHERE {_QUEUE})) AS v
"""
_LAST = f"""
    SELECT finish FROM fair_marks WHERE owner_id = :owner AND {_QUEUE}
    ORDER BY finish DESC LIMIT 1
"""
_AHEAD = backlog_sql(
    profile=":profile",
    region=":region",
    only="(priority, vstart) <= (:priority, stamped.vstart)",
)
# `finish >=` and not `=`: another submit may move the mark while this one waits for its lock.
STAMP = Fixed(
    text(f"""
    WITH present AS ({_PRESENT}), last AS ({_LAST}), moved AS (
        UPDATE fair_marks AS t SET finish = greatest(t.finish, v) + :cost FROM present
        WHERE owner_id = :owner AND {_QUEUE} AND finish >= (SELECT finish FROM last) AND {NO_WAIT}
        RETURNING finish - :cost AS vstart
    ), first AS (
        INSERT INTO fair_marks AS t (owner_id, profile, region, priority, finish)
        SELECT :owner, :profile, :region, :priority, v + :cost FROM present
        WHERE NOT EXISTS (SELECT FROM last) AND {NO_WAIT}
        ON CONFLICT (owner_id, profile, region, priority, finish)
        DO UPDATE SET finish = t.finish + :cost
        RETURNING finish - :cost AS vstart
    ), stamped AS (SELECT max(vstart) AS vstart FROM (TABLE moved UNION ALL TABLE first) AS one)
    SELECT vstart, ahead.jobs, ahead.cost FROM stamped, LATERAL ({_AHEAD}) AS ahead
    """)
)
PEEK = text(
    f"""
    WITH present AS ({_PRESENT}), stamped AS (
        SELECT greatest(v, ({_LAST})) AS vstart FROM present
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

    Plan: ix_jobs_waiting for the present and the count, ix_fair_marks_queue for the largest finish,
    pk_fair_marks for the owner's.
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
