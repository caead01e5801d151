"""Attempts: begin, renew, finish, stop, fail. `placing.py` makes them.

Begin matches the fence of a placement. Later calls match the fence and the lease token that the
worker drew at random: a crash of the database may take back placements and begins and then hand out
their fence again, but it cannot repeat a token. If no row matches, somebody else owns the job now.
All times are the database's. Plan: every statement here finds its job through pk_jobs, however old
the statistics are (STATE_BY_ID).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from app.domain.job.lease import LEASE_S
from app.domain.job.levels import SPEAKS
from app.domain.job.state import MAX_BEGUN, Event, move
from app.store.fixed import Fixed
from app.store.job.jobs import end
from app.store.job.queue import head_sql
from app.store.job.records import BegunJob, RequeuedJob, columns
from app.store.models import STATE_BY_ID
from app.store.session import NO_WAIT
from stillmotion import __version__
from stillmotion.errors import StillmotionError
from stillmotion.states import JobState


def take_back(tx: Connection, job_id: UUID, fence: int, token: str, reason: str) -> bool:
    """Undo one placement that no worker began, e.g. because its message could not be published.

    `token`: the claim's; after a crash another placement may have the same fence.
    """
    return bool(
        requeue(
            tx,
            f"""id = :id AND fence = :fence AND {STATE_BY_ID} = 'starting' AND EXISTS (
                SELECT FROM attempts AS a
                WHERE a.job_id = jobs.id AND a.fence = jobs.fence AND a.token = :token)""",
            {"id": job_id, "fence": fence, "token": token},
            "not_begun",
            reason,
        )
    )


# Statements are made once: making one costs as much as running it.
BEGIN = Fixed(
    text(f"""
    WITH begun AS (
        UPDATE jobs SET
            state = 'processing', begun = begun + (state = 'starting')::int,
            started_at = now(), step = 0,
            lease_until = now() + make_interval(secs => :lease_s),
            lease_token = :lease_token,
            attempt_until = now() + make_interval(secs => :attempt_limit)
        WHERE id = :id AND fence = :fence AND (
            ({STATE_BY_ID} = 'starting' AND NOT cancel_requested AND begun < {MAX_BEGUN}
             AND needs <= :speaks
             AND region = :region AND (deadline IS NULL OR deadline > now()))
            OR ({STATE_BY_ID} = 'processing' AND lease_token = :lease_token)
          ) AND {NO_WAIT}
        RETURNING *
    ), noted AS (
        UPDATE attempts SET begun_at = now(), worker = :worker,
            model_version = :model_version, release = :release FROM begun
        WHERE job_id = begun.id AND attempts.fence = begun.fence
        RETURNING job_id, token
    )
    SELECT {columns("begun")}, noted.token,
        CAST(extract(epoch FROM begun.deadline - now()) AS float8), EXISTS (
        SELECT FROM webhook_endpoints AS hook WHERE hook.owner_id = begun.owner_id
    ) AS has_webhooks
    FROM begun JOIN noted ON noted.job_id = begun.id
    """)
)


def begin(
    tx: Connection,
    job_id: UUID,
    fence: int,
    *,
    worker: str,
    attempt_limit_s: float,
    lease_token: str,
    region: str,
    model_version: str | None = None,
    speaks: int = SPEAKS,
) -> BegunJob | None:
    """Take the lease of the placement that `fence` names. None: it is stale, drop the message.

    `lease_token`: new and random for every message, and named by the attempt's later calls. A
    second begin with the token that holds the lease is a retry whose first answer was lost: it
    restarts the attempt's clocks and does not count again.
    `region`: the worker's. After a crash took a placement back, its message must not begin a later
    placement that got the same fence in another region.
    `model_version`: of what will render; noted in the attempt with this release.
    `speaks`: the worker's level. No job that needs a higher one begins here, wherever its message
    came from.
    """
    found = BEGIN.rows(
        tx,
        {
            "id": job_id,
            "fence": fence,
            "worker": worker,
            "lease_s": LEASE_S,
            "lease_token": lease_token,
            "region": region,
            "attempt_limit": attempt_limit_s,
            "model_version": model_version,
            "speaks": speaks,
            "release": __version__,
        },
    )
    return BegunJob(*found[0]) if found else None


OWNED = (
    f"id = :id AND fence = :fence AND lease_token = :lease_token AND {STATE_BY_ID} = 'processing'"
)


RENEW = text(
    f"""
    UPDATE jobs SET lease_until = now() + make_interval(secs => :lease_s), step = :step
    WHERE {OWNED} AND attempt_until > now() AND {NO_WAIT}
    RETURNING cancel_requested
    """
)


def renew(tx: Connection, job_id: UUID, fence: int, *, step: int, lease_token: str) -> bool | None:
    """Extend the lease. True: go on; False: asked to stop; None: superseded."""
    row = tx.execute(
        RENEW,
        {
            "id": job_id,
            "fence": fence,
            "lease_token": lease_token,
            "step": step,
            "lease_s": LEASE_S,
        },
    ).one_or_none()
    return None if row is None else not row.cancel_requested


def finish(
    tx: Connection,
    job_id: UUID,
    fence: int,
    key: str,
    size_bytes: int,
    timings: Mapping[str, float] | None = None,
    *,
    lease_token: str,
) -> bool:
    """Commit the clip. `timings`: stage -> seconds. False: refused; the job's row says why.

    Refused after the client's deadline, too: who set one does not wait any more.
    """
    return bool(
        end(
            tx,
            JobState.SUCCEEDED,
            f"{OWNED} AND NOT cancel_requested AND (deadline IS NULL OR deadline > now())",
            {"id": job_id, "fence": fence, "lease_token": lease_token},
            outcome="succeeded",
            output=(key, size_bytes),
            timings=timings,
        )
    )


def stop(tx: Connection, job_id: UUID, fence: int, *, lease_token: str) -> bool:
    """End an attempt that was asked to stop, or whose deadline passed: the job is canceled."""
    return bool(
        end(
            tx,
            JobState.CANCELED,
            f"{OWNED} AND (cancel_requested OR deadline <= now())",
            {"id": job_id, "fence": fence, "lease_token": lease_token},
            outcome="canceled",
            error_code="canceled",
            error_detail="The job was canceled.",
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
    lease_token: str,
    excused: bool = False,
) -> JobState | None:
    """Close a failed attempt. The job waits `delay_s` for the next one, or ends.

    `excused`: neither the job nor the worker was at fault, so the attempt does not count as begun.
    Returns the job's new state, or None if the attempt was superseded.
    """
    owned = {"id": job_id, "fence": fence, "lease_token": lease_token}
    row = tx.execute(
        text(f"SELECT begun, cancel_requested FROM jobs WHERE {OWNED} FOR UPDATE"), owned
    ).one_or_none()
    if row is None:
        return None
    if row.cancel_requested:
        stop(tx, job_id, fence, lease_token=lease_token)
        return JobState.CANCELED
    event = Event.FAIL_TRANSIENT if error.retryable else Event.FAIL_PERMANENT
    after = move(JobState.PROCESSING, event, begun=row.begun - int(excused))
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
        requeue(
            tx,
            OWNED,
            owned,
            "failed",
            error.code,
            delay_s=delay_s,
            next_region=next_region,
            excused=excused,
        )
    return after


# Each region's queue has its own virtual time: a job that joins another queue goes to its head.
_THERE = "coalesce(:next_region, jobs.home_region)"
_HEAD = head_sql(profile="jobs.profile", region=_THERE, priority="jobs.priority")
_VSTART = f"CASE WHEN {_THERE} = next_region THEN vstart ELSE coalesce(({_HEAD}), vstart) END"


@cache
def _requeuing(where: str) -> TextClause:
    return text(
        f"""
        WITH freed AS (
            UPDATE jobs SET
                state = 'queued', lease_until = NULL, attempt_until = NULL,
                lease_token = NULL, step = 0,
                next_region = coalesce(:next_region, home_region), vstart = {_VSTART},
                not_before = CASE WHEN :delay > 0
                    THEN now() + make_interval(secs => :delay) END,
                begun = begun - :excused,
                queue_deadline = queue_deadline + CASE
                    WHEN state = 'processing' AND :excused = 0
                    THEN now() - started_at + make_interval(secs => :delay)
                    ELSE interval '0' END
            WHERE {where}
            RETURNING id, profile, needs, region, fence, traceparent
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
        SELECT id, profile, needs, region, fence, token, traceparent
        FROM freed JOIN closed ON job_id = id
        """
    )


def requeue(
    tx: Connection,
    where: str,
    values: dict[str, Any],
    outcome: str,
    error_code: str,
    *,
    delay_s: float = 0.0,
    next_region: str | None = None,
    excused: bool = False,
) -> Sequence[RequeuedJob]:
    """Return jobs to the queue: close the attempt and note the hop. The fence stays.

    `where`: a fixed condition on `jobs` from our own code, with its `values`. The queue deadline
    moves on by the time that the attempt ran, unless the attempt was excused: then the deadline
    bounds how long an outage may last.
    """
    rows = tx.execute(
        _requeuing(where),
        {
            "outcome": outcome,
            "error_code": error_code,
            "delay": delay_s,
            "excused": int(excused),
            "next_region": next_region,
            **values,
        },
    )
    return [RequeuedJob(*row) for row in rows]
