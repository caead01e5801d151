"""A queue as SQL: the waiting jobs of one profile in one region, in the order they are taken.

Everything here must be a walk along ix_jobs_fair, however long the queue is: equality on `profile`
and `next_region`, then TAKEN_ORDER, up to a limit.
"""

from app.store.models import WAITING_SQL

TAKEN_ORDER = "priority, vstart, id"


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


def count_sql(*, profile: str, region: str, only: str = "true") -> str:
    """How many jobs of a queue meet `only`, counted up to :most, as a subquery.

    The order changes no count. Without it the LIMIT tempts the planner to scan the table.
    """
    return f"""
        SELECT count(*) FROM (
            SELECT FROM jobs
            WHERE {WAITING_SQL} AND profile = {profile} AND next_region = {region} AND {only}
            ORDER BY {TAKEN_ORDER} LIMIT :most) AS counted
    """
