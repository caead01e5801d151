"""What the reaper takes back: placements nobody began, lost leases, ended backoffs, deadlines.

All times are the database's.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from app.domain.job.lease import BEGIN_WITHIN_S
from app.domain.job.state import MAX_BEGUN, Event, move
from app.store.job.attempts import requeue
from app.store.job.jobs import end
from app.store.job.records import AttemptRef, RequeuedJob, StopRequest
from stillmotion.states import JobState

REAP_BATCH = 500
LOST_AND_ENDED = {
    JobState.CANCELED: ("canceled", "The client canceled the job; its worker is gone."),
    JobState.FAILED: ("attempts_exhausted", f"The workers of {MAX_BEGUN} attempts were lost."),
}


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


def reap_unbegun(tx: Connection) -> Sequence[RequeuedJob]:
    """Put back placements that no worker has begun in time; counts against nothing."""
    late = _batch(
        "state = 'starting' AND placed_at < now() - make_interval(secs => :within)", "placed_at"
    )
    return requeue(
        tx, late, {"within": BEGIN_WITHIN_S, "most": REAP_BATCH}, "not_begun", "not_begun"
    )


def reap_lost(tx: Connection) -> dict[JobState, Sequence[AttemptRef]]:
    """Take jobs back from workers that stopped renewing, or went over the attempt's limit.

    Returns the attempts, by the state that their job is in now.
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
    taken: dict[JobState, Sequence[AttemptRef]] = {}
    for after, ids in lost.items():
        if after is JobState.QUEUED:
            taken[after] = requeue(tx, these, {"ids": ids}, "lost", "worker_lost")
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


def reap_deadlines(tx: Connection) -> Sequence[StopRequest]:
    """Expire what waited too long; ask workers past a job's deadline to stop, and return them."""
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
    rows = tx.execute(
        text(
            """
            UPDATE jobs SET cancel_requested = true
            WHERE state = 'processing' AND deadline <= now() AND NOT cancel_requested
            RETURNING id, region, fence
            """
        )
    )
    return [StopRequest(*row) for row in rows]


def _batch(condition: str, order_by: str) -> str:
    """A condition on at most :most rows that nobody else has locked."""
    return (
        f"id IN (SELECT id FROM jobs WHERE {condition}"
        f" ORDER BY {order_by} LIMIT :most FOR UPDATE SKIP LOCKED)"
    )
