"""Attempts: begin, renew, finish, fail, and what the reaper takes back. `placing.py` makes them.

Every statement names the fence it acts for. Zero rows means that somebody else owns the job now.
All times are the database's.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from app.domain.errors import StillmotionError
from app.domain.job import MAX_BEGUN, Event, JobState, move
from app.domain.lease import BEGIN_WITHIN_S, LEASE_S
from app.store.jobs import end

REAP_BATCH = 500
LOST_AND_ENDED = {
    JobState.CANCELED: ("canceled", "The client canceled the job; its worker is gone."),
    JobState.FAILED: ("attempts_exhausted", f"The workers of {MAX_BEGUN} attempts were lost."),
}


# In the WHERE of an UPDATE: its commit does not wait for the disk. Commits are written in order, so
# a crash of the database takes back the last few placements, begins and renewals together with all
# that followed from them; what a client was told (submit, cancel, every end) always waits.
NO_WAIT = "set_config('synchronous_commit', 'off', true) = 'off'"


def take_back(tx: Connection, job_id: UUID, fence: int, reason: str) -> bool:
    """Undo one placement that was not begun, e.g. because its message could not be published."""
    return bool(
        _requeue(
            tx,
            "id = :id AND fence = :fence AND state = 'starting'",
            {"id": job_id, "fence": fence},
            "not_begun",
            reason,
        )
    )


def begin(
    tx: Connection, job_id: UUID, fence: int, *, worker: str, attempt_limit_s: float
) -> Row[Any] | None:
    """Take the lease of the placement that `fence` names. None: it is stale, drop the message.

    The row has the job's columns, the claim's `token` and whether the owner `has_webhooks`.
    """
    return tx.execute(
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
            SELECT begun.*, noted.token, EXISTS (
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


def finish(tx: Connection, job_id: UUID, fence: int, key: str, size_bytes: int) -> bool:
    """Commit the clip. False: read the row to learn why."""
    return bool(
        end(
            tx,
            JobState.SUCCEEDED,
            f"{OWNED} AND NOT cancel_requested",
            {"id": job_id, "fence": fence},
            outcome="succeeded",
            output=(key, size_bytes),
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
        _requeue(tx, OWNED, owned, "failed", error.code, delay_s=delay_s, next_region=next_region)
    return after


def release(tx: Connection) -> tuple[int, float | None]:
    """Let jobs whose backoff is over wait for placement again.

    Returns how many, and the seconds until the next backoff ends.
    """
    released = tx.execute(
        text(
            """
            UPDATE jobs SET not_before = NULL WHERE id IN (
                SELECT id FROM jobs WHERE state = 'queued' AND not_before <= now()
                ORDER BY not_before LIMIT :most FOR UPDATE SKIP LOCKED)
            """
        ),
        {"most": REAP_BATCH},
    ).rowcount
    due = tx.execute(
        text(
            """
            SELECT extract(epoch FROM min(not_before) - clock_timestamp()) FROM jobs
            WHERE state = 'queued' AND not_before IS NOT NULL
            """
        )
    ).scalar_one()
    return released, None if due is None else max(0.0, float(due))


def reap_unbegun(tx: Connection) -> Sequence[Row[Any]]:
    """Put back placements that no worker has begun in time; counts against nothing.

    Returns (id, profile, region, fence, token) of each.
    """
    late = _batch(
        "state = 'starting' AND placed_at < now() - make_interval(secs => :within)", "placed_at"
    )
    return _requeue(
        tx, late, {"within": BEGIN_WITHIN_S, "most": REAP_BATCH}, "not_begun", "not_begun"
    )


def reap_lost(tx: Connection) -> dict[JobState, Sequence[Row[Any]]]:
    """Take jobs back from workers that stopped renewing, or went over the attempt's limit.

    Returns (id, region, fence) of each, by the state it is in now.
    """
    lost: dict[JobState, list[UUID]] = {}
    # One walk over each partial index; an OR over both columns would read the whole table.
    for column in ("lease_until", "attempt_until"):
        rows = tx.execute(
            text(
                f"""
                SELECT id, begun, cancel_requested FROM jobs
                WHERE state = 'processing' AND {column} < now()
                ORDER BY {column} LIMIT :most FOR UPDATE SKIP LOCKED
                """
            ),
            {"most": REAP_BATCH},
        )
        for row in rows:
            event = Event.CANCEL if row.cancel_requested else Event.LOSE
            after = move(JobState.PROCESSING, event, begun=row.begun)
            lost.setdefault(after, []).append(row.id)
    these = "id = ANY(:ids) AND state = 'processing'"
    taken: dict[JobState, Sequence[Row[Any]]] = {}
    for after, ids in lost.items():
        if after is JobState.QUEUED:
            taken[after] = _requeue(tx, these, {"ids": ids}, "lost", "worker_lost")
        else:
            code, detail = LOST_AND_ENDED[after]
            taken[after] = end(
                tx,
                after,
                these,
                {"ids": ids},
                outcome="lost",
                error_code=code,
                error_detail=detail,
            )
    return taken


def reap_deadlines(tx: Connection) -> Sequence[Row[Any]]:
    """Expire what waited too long; ask workers past a job's deadline to stop.

    Returns (id, region, fence) of those asked.
    """
    for column, code, detail in (
        ("deadline", "deadline_exceeded", "The deadline passed."),
        ("queue_deadline", "queue_timeout", "No worker was free within max_queue_seconds."),
    ):
        end(
            tx,
            JobState.EXPIRED,
            _batch(f"state IN ('queued', 'starting') AND {column} <= now()", column),
            {"most": REAP_BATCH},
            outcome="not_begun",
            error_code=code,
            error_detail=detail,
            new_fence=True,
        )
    return tx.execute(
        text(
            """
            UPDATE jobs SET cancel_requested = true
            WHERE state = 'processing' AND deadline <= now() AND NOT cancel_requested
            RETURNING id, region, fence
            """
        )
    ).fetchall()


def _batch(condition: str, order_by: str) -> str:
    """A condition on at most :most rows that nobody else has locked."""
    return (
        f"id IN (SELECT id FROM jobs WHERE {condition}"
        f" ORDER BY {order_by} LIMIT :most FOR UPDATE SKIP LOCKED)"
    )


def _requeue(
    tx: Connection,
    where: str,
    values: dict[str, Any],
    outcome: str,
    error_code: str,
    *,
    delay_s: float = 0.0,
    next_region: str | None = None,
) -> Sequence[Row[Any]]:
    """Back to the queue: close the attempt, note the hop, keep the fence for the next to pass."""
    return tx.execute(
        text(
            f"""
            WITH freed AS (
                UPDATE jobs SET
                    state = 'queued', lease_until = NULL, attempt_until = NULL, step = 0,
                    next_region = coalesce(:next_region, home_region),
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
    ).fetchall()
