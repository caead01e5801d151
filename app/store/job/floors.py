"""Queue floors: virtual starts that no waiting job is below, where walks of a queue begin.

A job that is placed leaves its entry in ix_jobs_waiting. Vacuum removes it, unless a snapshot of
the database is older: a dump, a long report, a standby's feedback. A walk from the head of a queue
then passes the entries of all jobs that were placed since, at every submit and every placement.

Virtual time never runs backwards, so what was a queue's present a while ago is a floor. A trigger
lifts every job that joins a queue, such as a retry, to the next floor. The next floor takes effect
EVERY_S later at the earliest, and never above a job that waits by then, so a submit has this time
to commit. A job that takes longer may be below the floor, where nobody sees it, until `lower` has
walked the whole queue.
"""

from collections.abc import Sequence

from sqlalchemy import ARRAY, Connection, Text, bindparam, text

from app.store.job.queue import head_sql, last_finish_sql
from app.store.session import NO_WAIT

EVERY_S = 2.0
LOWER_EVERY_S = 60.0

# In the database from the first look on, so that moving is one UPDATE.
_ADD = text(
    f"""
    INSERT INTO queue_floors (profile, region, priority, vstart, next_vstart, set_at)
    SELECT p.name, r.name, class.priority, '-Infinity', '-Infinity', now()
    FROM unnest(:profiles) AS p(name), unnest(:regions) AS r(name),
        (VALUES (0), (1), (2)) AS class(priority)
    WHERE NOT EXISTS (
        SELECT FROM queue_floors AS f
        WHERE f.profile = p.name AND f.region = r.name AND f.priority = class.priority
    ) AND {NO_WAIT}
    ON CONFLICT DO NOTHING
    """
).bindparams(bindparam("profiles", type_=ARRAY(Text)), bindparam("regions", type_=ARRAY(Text)))


_OF_FLOOR = {"profile": "q.profile", "region": "q.region", "priority": "q.priority"}
_SAME = "f.profile = q.profile AND f.region = q.region AND f.priority = q.priority"
_DUE = "{}.set_at <= now() - make_interval(secs => :every)"
_MOVE = text(
    f"""
    UPDATE queue_floors AS f SET
        vstart = least(f.next_vstart, q.head), next_vstart = greatest(f.next_vstart, q.present),
        set_at = now()
    FROM (
        SELECT q.profile, q.region, q.priority, heads.head,
            coalesce(heads.head, ({last_finish_sql(**_OF_FLOOR)})) AS present
        FROM queue_floors AS q, LATERAL (SELECT ({head_sql(**_OF_FLOOR)}) AS head) AS heads
        WHERE {_DUE.format("q")}
    ) AS q
    WHERE {_SAME} AND {_DUE.format("f")} AND {NO_WAIT}
      AND (f.vstart <> least(f.next_vstart, q.head) OR f.next_vstart < q.present)
    """
)
_LOWER = text(
    f"""
    UPDATE queue_floors AS f SET vstart = q.head FROM (
        SELECT q.profile, q.region, q.priority, heads.head FROM queue_floors AS q,
            LATERAL (SELECT ({head_sql(**_OF_FLOOR, floor="'-Infinity'")}) AS head) AS heads
    ) AS q
    WHERE {_SAME} AND q.head < f.vstart AND {NO_WAIT}
    """
)


def move(
    tx: Connection,
    profiles: Sequence[str],
    regions: Sequence[str],
    *,
    every_s: float = EVERY_S,
) -> None:
    """Move the floors that were set `every_s` ago or earlier, as far as the queues have come.

    Plan: one entry of ix_jobs_waiting for each queue.
    """
    tx.execute(_ADD, {"profiles": list(profiles), "regions": list(regions)})
    tx.execute(_MOVE, {"every": every_s})


def lower(tx: Connection) -> int:
    """Lower the floors that a waiting job is below; returns how many. It joined too late.

    Plan: as for `move`, with all the entries that an open snapshot keeps.
    """
    return tx.execute(_LOWER, {}).rowcount
