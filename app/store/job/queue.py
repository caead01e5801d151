"""A queue as SQL: the waiting jobs of one profile in one region, in the order they are taken.

Everything here must be a walk along ix_jobs_waiting, however long the queue is: equality on
`profile` and `next_region`, then TAKEN_ORDER, up to a limit.
"""

from typing import NamedTuple

from app.store.models import WAITING_SQL

TAKEN_ORDER = "priority, vstart, id"


class Backlog(NamedTuple):
    """Some waiting jobs: how many, and their cost together, in units."""

    jobs: int
    cost: float


def head_sql(*, profile: str, region: str, priority: str) -> str:
    """The virtual start of the first job that waits in a queue, as a subquery.

    It is also the queue's present, which a job gets that joins late: from another region, or when
    it is granted a slot. The arguments are SQL; a column of the outer query needs its table's name.
    """
    return f"""
        SELECT vstart FROM jobs AS head
        WHERE {WAITING_SQL}
          AND profile = {profile} AND next_region = {region} AND priority = {priority}
        ORDER BY vstart, id LIMIT 1
    """


def backlog_sql(*, profile: str, region: str, only: str = "true") -> str:
    """The Backlog of a queue's jobs that meet `only`, counted up to :most, as a subquery.

    The order changes no count. Without it the LIMIT tempts the planner to scan the table.
    """
    return f"""
        SELECT count(*) AS jobs, coalesce(sum(cost), 0) AS cost FROM (
            SELECT cost FROM jobs
            WHERE {WAITING_SQL} AND profile = {profile} AND next_region = {region} AND {only}
            ORDER BY {TAKEN_ORDER} LIMIT :most) AS counted
    """
