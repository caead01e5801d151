"""A queue as SQL: the waiting jobs of one profile in one region, in the order they are taken.

Everything here must be a walk along ix_jobs_waiting, however long the queue is: equality on
`profile`, `next_region` and `priority`, then TAKEN_ORDER from the queue's floor on, up to a limit.
Without the floor a walk would pass the entries of all jobs that have left the queue since the
oldest open snapshot of the database.
"""

from typing import NamedTuple

from app.store.models import WAITING_SQL

TAKEN_ORDER = "priority, vstart, id"


class Backlog(NamedTuple):
    """Some waiting jobs: how many, and their cost together, in units."""

    jobs: int
    cost: float


def floor_sql(*, profile: str, region: str, priority: str) -> str:
    """What no job of a queue starts below (app/store/job/floors.py), as a subquery."""
    return f"""coalesce((
        SELECT f.vstart FROM queue_floors AS f
        WHERE f.profile = {profile} AND f.region = {region} AND f.priority = {priority}
    ), '-Infinity')"""


def head_sql(*, profile: str, region: str, priority: str, floor: str = "") -> str:
    """The virtual start of the first job that waits in a queue, as a subquery.

    It is also the queue's present, which a job gets that joins late: from another region, or when
    it is granted a slot. The arguments are SQL; a column of the outer query needs its table's name.
    `floor`: where the walk begins, if not at the queue's own.
    """
    floor = floor or floor_sql(profile=profile, region=region, priority=priority)
    return f"""
        SELECT vstart FROM jobs AS head
        WHERE {WAITING_SQL}
          AND profile = {profile} AND next_region = {region} AND priority = {priority}
          AND vstart >= {floor}
        ORDER BY vstart, id LIMIT 1
    """


def walk_sql(columns: str, *, profile: str, region: str, only: str = "true") -> str:
    """The first jobs of each priority class that meet `only`, up to :most each, as a subquery."""
    return f"""
        SELECT walked.* FROM (VALUES (0), (1), (2)) AS class(priority)
        LEFT JOIN queue_floors AS f
            ON f.profile = {profile} AND f.region = {region} AND f.priority = class.priority,
        LATERAL (
            SELECT {columns} FROM jobs
            WHERE {WAITING_SQL} AND profile = {profile} AND next_region = {region}
              AND jobs.priority = class.priority
              AND jobs.vstart >= coalesce(f.vstart, '-Infinity') AND {only}
            ORDER BY vstart, id LIMIT :most) AS walked
    """


def backlog_sql(*, profile: str, region: str, only: str = "true") -> str:
    """The Backlog of a queue's jobs that meet `only`, counted up to :most, as a subquery.

    The order changes no count. Without it the LIMIT tempts the planner to scan the table.
    """
    found = walk_sql("cost", profile=profile, region=region, only=only)
    return f"""
        SELECT count(*) AS jobs, coalesce(sum(cost), 0) AS cost
        FROM (SELECT cost FROM ({found}) AS found LIMIT :most) AS counted
    """


def last_finish_sql(*, profile: str, region: str, priority: str) -> str:
    """The largest virtual finish that any job of a queue was given, as a subquery.

    It is the last entry of ix_fair_marks_queue, whose form it has, and is the queue's present while
    nothing waits.
    """
    return f"""
        SELECT m.finish FROM fair_marks AS m
        WHERE '' || m.profile = {profile} AND '' || m.region = {region}
          AND m.priority + 0 = {priority}
        ORDER BY m.finish + 0 DESC LIMIT 1
    """
