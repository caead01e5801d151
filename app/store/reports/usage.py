"""An owner's usage by day: ended jobs as added up so far, and the few that are not yet.

A job counts for the day of its submit. Once it has ended nothing about it changes, so the leading
dispatcher adds it to `usage_days` within a minute or two, and a report reads some thirty rows
however many jobs there were. After that the job's own row may be deleted.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from stillmotion.states import TERMINAL, JobState

STATES = ("succeeded", "failed", "canceled", "expired")
ROLL_UP_LOCK = 0x5717_110A  # an advisory lock of the database
ROLL_UP_BATCH = 5_000
# A row's `finished_at` is when its transaction began. None lasts this long: a statement, and a
# pause between two, have shorter limits (app/store/session.py).
SETTLED_S = 60.0

_LIVE = ", ".join(f"'{state}'" for state in JobState if state not in TERMINAL)
_SUMMED = ("jobs", *STATES, "cost_units", "gpu_seconds")
_SUMS = ", ".join(f"sum({name})" for name in _SUMMED)
_ADDED = ", ".join(f"{name} = u.{name} + excluded.{name}" for name in _SUMMED)
# What one job adds to each sum.
_ONE = f"""
    1 AS jobs, {", ".join(f"(state = '{state}')::int AS {state}" for state in STATES)},
    CASE state WHEN 'succeeded' THEN cost ELSE 0 END AS cost_units,
    CASE WHEN fence > 0 THEN coalesce((
        SELECT sum(extract(epoch FROM ended_at - begun_at)) FROM attempts WHERE job_id = jobs.id
    ), 0)::float8 ELSE 0 END AS gpu_seconds
"""
_DAY = "(created_at AT TIME ZONE 'UTC')::date"

_ENDED_UNTIL = text(
    "SELECT coalesce((SELECT ended_until FROM usage_roll_up), to_timestamp(0)) AS ended_until"
)
# By ix_jobs_owner_state and ix_jobs_finished_at: live jobs, and the last minutes of everybody's.
_BY_DAY = text(
    f"""
    SELECT day, profile, {_SUMS} FROM (
        SELECT day, profile, {", ".join(_SUMMED)} FROM usage_days
        WHERE owner_id = :owner AND day >= :first AND day < :last
        UNION ALL
        SELECT {_DAY}, profile, {_ONE} FROM jobs
        WHERE owner_id = :owner AND state IN ({_LIVE}) AND purged_at IS NULL
          AND created_at >= :since AND created_at < :before
        UNION ALL
        SELECT {_DAY}, profile, {_ONE} FROM jobs
        WHERE owner_id = :owner AND finished_at > :ended_until
          AND created_at >= :since AND created_at < :before
    ) AS counted GROUP BY 1, 2 ORDER BY 1, 2
    """
)
_NEXT = text(
    """
    SELECT least(last, settled) AS until, coalesce(last < settled, false) AS more FROM (
        SELECT now() - make_interval(secs => :settled) AS settled, (
            SELECT finished_at FROM jobs WHERE finished_at > :ended_until
            ORDER BY finished_at OFFSET :batch LIMIT 1) AS last) AS bounds
    """
)
_ADD_UP = text(
    f"""
    INSERT INTO usage_days AS u
        (owner_id, day, profile, {", ".join(_SUMMED)})
    SELECT owner_id, day, profile, {_SUMS} FROM (
        SELECT owner_id, {_DAY} AS day, profile, {_ONE} FROM jobs
        WHERE finished_at > :ended_until AND finished_at <= :until
    ) AS ended GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (owner_id, day, profile) DO UPDATE SET {_ADDED}
    """
)
_NOTE = text(
    """
    INSERT INTO usage_roll_up (id, ended_until) VALUES (1, :until)
    ON CONFLICT (id) DO UPDATE SET ended_until = excluded.ended_until
    """
)


def by_day(
    tx: Connection, owner_id: UUID, *, since: datetime, before: datetime
) -> list[dict[str, Any]]:
    """One entry for each day (UTC) and profile with jobs submitted in [since, before).

    `since`, `before`: midnights. Needs a transaction that has not read anything yet: between two
    snapshots a job could be added up, and counted twice.
    """
    tx.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    ended_until = tx.execute(_ENDED_UNTIL).scalar_one()
    values = {"owner": owner_id, "since": since, "before": before, "ended_until": ended_until}
    days = {"first": since.astimezone(UTC).date(), "last": before.astimezone(UTC).date()}
    return [
        {
            "day": day.isoformat(),
            "model": profile,
            "jobs": int(jobs),
            **dict(zip(STATES, map(int, by_state), strict=True)),
            "cost_units": round(float(cost_units), 4),
            "gpu_seconds": round(float(gpu_seconds), 3),
        }
        for day, profile, jobs, *by_state, cost_units, gpu_seconds in tx.execute(
            _BY_DAY, values | days
        )
    ]


def roll_up(tx: Connection, *, batch: int = ROLL_UP_BATCH, settled_s: float = SETTLED_S) -> bool:
    """Add about `batch` jobs that ended `settled_s` ago to their days. Returns whether more wait.

    Does nothing while another process is at it. Plan: a stretch of ix_jobs_finished_at.
    """
    lock = text("SELECT pg_try_advisory_xact_lock(:key)")
    if not tx.execute(lock, {"key": ROLL_UP_LOCK}).scalar_one():
        return False
    ended_until = tx.execute(_ENDED_UNTIL).scalar_one()
    until, more = tx.execute(
        _NEXT, {"ended_until": ended_until, "settled": settled_s, "batch": batch}
    ).one()
    if until > ended_until:
        tx.execute(_ADD_UP, {"ended_until": ended_until, "until": until})
        tx.execute(_NOTE, {"until": until})
    return bool(more)
