"""An owner's usage, counted from the jobs themselves. Tombstones are kept for it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from app.domain.job.state import first_id
from app.store.job.jobs import ID_SLACK

STATES = ("succeeded", "failed", "canceled", "expired")

# Ids begin with their time, so a range of days is one stretch of ix_jobs_owner.
BY_DAY = text(
    f"""
    SELECT (created_at AT TIME ZONE 'UTC')::date AS day, profile, count(*) AS jobs,
        {", ".join(f"count(*) FILTER (WHERE state = '{state}') AS {state}" for state in STATES)},
        coalesce(sum(cost) FILTER (WHERE state = 'succeeded'), 0) AS cost_units,
        coalesce(sum(extract(epoch FROM worked.time)), 0) AS gpu_seconds
    FROM jobs LEFT JOIN LATERAL (
        SELECT sum(ended_at - begun_at) AS time FROM attempts WHERE job_id = jobs.id
    ) AS worked ON true
    WHERE owner_id = :owner AND id >= :first AND id < :last
      AND created_at >= :since AND created_at < :before
    GROUP BY 1, 2 ORDER BY 1, 2
    """
)


def by_day(
    tx: Connection, owner_id: UUID, *, since: datetime, before: datetime
) -> list[dict[str, Any]]:
    """One entry for each day (UTC) and profile with jobs submitted in [since, before)."""
    bounds = {"first": first_id(since - ID_SLACK), "last": first_id(before + ID_SLACK)}
    rows = tx.execute(BY_DAY, {"owner": owner_id, "since": since, "before": before, **bounds})
    return [
        {
            "day": row.day.isoformat(),
            "model": row.profile,
            "jobs": row.jobs,
            **{state: getattr(row, state) for state in STATES},
            "cost_units": round(float(row.cost_units), 4),
            "gpu_seconds": round(float(row.gpu_seconds), 3),
        }
        for row in rows
    ]
