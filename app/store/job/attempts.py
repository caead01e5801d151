"""Attempts: begin, renew, finish, fail. `placing.py` makes them.

Every statement names the fence it acts for. Zero rows means that somebody else owns the job now.
All times are the database's.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from app.domain.job.lease import LEASE_S
from app.domain.job.state import MAX_BEGUN, Event, move
from app.store.job.fair import head_sql
from app.store.job.jobs import end
from app.store.job.records import BegunJob, RequeuedJob, columns
from stillmotion.errors import StillmotionError
from stillmotion.states import JobState

# In the WHERE of an UPDATE: its commit does not wait for the disk. Commits are written in order, so
# a crash of the database takes back the last few placements, begins and renewals together with all
# that followed from them; what a client was told (submit, cancel, every end) always waits.
NO_WAIT = "set_config('synchronous_commit', 'off', true) = 'off'"


def take_back(tx: Connection, job_id: UUID, fence: int, reason: str) -> bool:
    """Undo one placement that was not begun, e.g. because its message could not be published."""
    return bool(
        requeue(
            tx,
            "id = :id AND fence = :fence AND state = 'starting'",
            {"id": job_id, "fence": fence},
            "not_begun",
            reason,
        )
    )


def begin(
    tx: Connection, job_id: UUID, fence: int, *, worker: str, attempt_limit_s: float
) -> BegunJob | None:
    """Take the lease of the placement that `fence` names. None: it is stale, drop the message."""
    row = tx.execute(
        text(
            f"""
            WITH begun AS (
                UPDATE jobs SET
                    state = 'processing', begun = begun + 1, started_at = now(), step = 0,
                    lease_until = now() + make_interval(secs => :lease),
                    attempt_until = now() + make_interval(secs => :attempt_limit)
                WHERE id = :id AND fence = :fence AND state = 'starting'
                  AND NOT cancel_requested AND begun < {MAX_BEGUN}
                  AND (deadline IS NULL OR deadline > now()) AND {NO_WAIT}
                RETURNING *
            ), noted AS (
                UPDATE attempts SET begun_at = now(), worker = :worker FROM begun
                WHERE job_id = begun.id AND attempts.fence = begun.fence
                RETURNING job_id, token
            )
            SELECT {columns("begun")}, noted.token, EXISTS (
                SELECT FROM webhook_endpoints AS hook WHERE hook.owner_id = begun.owner_id
            ) AS has_webhooks
            FROM begun JOIN noted ON noted.job_id = begun.id
            """
        ),
        {
            "id": job_id,
            "fence": fence,
            "worker": worker,
            "lease": LEASE_S,
            "attempt_limit": attempt_limit_s,
        },
    ).one_or_none()
    return None if row is None else BegunJob(*row)


def renew(tx: Connection, job_id: UUID, fence: int, *, step: int) -> bool | None:
    """Extend the lease. True: go on; False: the client asked to stop; None: superseded."""
    row = tx.execute(
        text(
            f"""
            UPDATE jobs SET lease_until = now() + make_interval(secs => :lease), step = :step
            WHERE id = :id AND fence = :fence AND state = 'processing' AND attempt_until > now()
              AND {NO_WAIT}
            RETURNING cancel_requested
            """
        ),
        {"id": job_id, "fence": fence, "step": step, "lease": LEASE_S},
    ).one_or_none()
    return None if row is None else not row.cancel_requested


OWNED = "id = :id AND fence = :fence AND state = 'processing'"


def finish(
    tx: Connection,
    job_id: UUID,
    fence: int,
    key: str,
    size_bytes: int,
    timings: Mapping[str, float] | None = None,
) -> bool:
    """Commit the clip; `timings`: stage -> seconds. False: read the row to learn why."""
    return bool(
        end(
            tx,
            JobState.SUCCEEDED,
            f"{OWNED} AND NOT cancel_requested",
            {"id": job_id, "fence": fence},
            outcome="succeeded",
            output=(key, size_bytes),
            timings=timings,
        )
    )


def stop(tx: Connection, job_id: UUID, fence: int) -> bool:
    """End an attempt that was asked to stop: the job is canceled."""
    return bool(
        end(
            tx,
            JobState.CANCELED,
            f"{OWNED} AND cancel_requested",
            {"id": job_id, "fence": fence},
            outcome="canceled",
            error_code="canceled",
            error_detail="The client canceled the job.",
        )
    )


def fail(
    tx: Connection,
    job_id: UUID,
    fence: int,
    error: StillmotionError,
    *,
    delay_s: float,
    next_region: str,
) -> JobState | None:
    """Close a failed attempt; the job waits `delay_s` for another, or ends.

    Returns the job's new state, or None if the attempt was superseded.
    """
    owned = {"id": job_id, "fence": fence}
    row = tx.execute(
        text(f"SELECT begun, cancel_requested FROM jobs WHERE {OWNED} FOR UPDATE"), owned
    ).one_or_none()
    if row is None:
        return None
    if row.cancel_requested:
        stop(tx, job_id, fence)
        return JobState.CANCELED
    event = Event.FAIL_TRANSIENT if error.retryable else Event.FAIL_PERMANENT
    after = move(JobState.PROCESSING, event, begun=row.begun)
    if after is JobState.FAILED:
        end(
            tx,
            after,
            OWNED,
            owned,
            outcome="failed",
            error_code=error.code,
            error_detail=error.detail,
        )
    else:
        requeue(tx, OWNED, owned, "failed", error.code, delay_s=delay_s, next_region=next_region)
    return after


# In another region's queue virtual time is another: a job that comes there goes to the front.
_THERE = "coalesce(:next_region, jobs.home_region)"
_HEAD = head_sql(profile="jobs.profile", region=_THERE, priority="jobs.priority")
_VSTART = f"CASE WHEN {_THERE} = next_region THEN vstart ELSE coalesce(({_HEAD}), vstart) END"


def requeue(
    tx: Connection,
    where: str,
    values: dict[str, Any],
    outcome: str,
    error_code: str,
    *,
    delay_s: float = 0.0,
    next_region: str | None = None,
) -> Sequence[RequeuedJob]:
    """Back to the queue: close the attempt, note the hop, keep the fence for the next to pass."""
    rows = tx.execute(
        text(
            f"""
            WITH freed AS (
                UPDATE jobs SET
                    state = 'queued', lease_until = NULL, attempt_until = NULL, step = 0,
                    next_region = coalesce(:next_region, home_region), vstart = {_VSTART},
                    not_before = CASE WHEN :delay > 0
                        THEN now() + make_interval(secs => :delay) END
                WHERE {where}
                RETURNING id, profile, region, fence
            ), closed AS (
                UPDATE attempts SET
                    ended_at = now(), outcome = :outcome, error_code = :error_code,
                    hops = hops || jsonb_build_array(jsonb_build_object(
                        'region', attempts.region, 'outcome', CAST(:outcome AS text),
                        'reason', CAST(:error_code AS text), 'at', now()))
                FROM freed
                WHERE job_id = freed.id AND attempts.fence = freed.fence AND ended_at IS NULL
                RETURNING job_id, token
            )
            SELECT id, profile, region, fence, token FROM freed JOIN closed ON job_id = id
            """
        ),
        {
            "outcome": outcome,
            "error_code": error_code,
            "delay": delay_s,
            "next_region": next_region,
            **values,
        },
    )
    return [RequeuedJob(*row) for row in rows]
