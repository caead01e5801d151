"""The reaper's statements: placements nobody began, lost leases, ended backoffs, deadlines.

All times are the database's.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Text, bindparam, text

from app.domain.job.lease import BEGIN_WITHIN_S, LEASE_S, OVERDUE_S
from app.domain.job.state import MAX_BEGUN, Event, move
from app.store.job.attempts import requeue
from app.store.job.jobs import end
from app.store.job.records import AttemptRef, EndedJob, LostJob, OverdueAttempt, RequeuedJob
from app.store.models import STATE_BY_ID, TERMINAL_SQL
from stillmotion.states import JobState

REAP_BATCH = 500
LOST_AND_ENDED = {
    JobState.CANCELED: ("canceled", "The job was canceled; its worker is gone."),
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


# Evaluated only for rows that the first condition on `placed_at` finds in its index.
_BEGIN_BACKOFF = """SELECT 1 << least(4, greatest(0, count(*)::int - 1)) FROM attempts
    WHERE job_id = jobs.id AND outcome = 'not_begun'"""


def reap_unbegun(tx: Connection) -> Sequence[RequeuedJob]:
    """Requeue placements that no worker began in time. They use up no attempt.

    After two such placements a job gets twice the time, and so on up to 16 times. Otherwise workers
    whose path to the database takes longer than BEGIN_WITHIN_S would never begin anything.
    """
    late = _batch(
        f"""state = 'starting' AND placed_at < now() - make_interval(secs => :within)
        AND placed_at < now() - make_interval(secs => :within * ({_BEGIN_BACKOFF}))""",
        "placed_at",
    )
    return requeue(
        tx, late, {"within": BEGIN_WITHIN_S, "most": REAP_BATCH}, "not_begun", "not_begun"
    )


# While an operator adds a region, processes disagree on the list of regions. After a minute few
# still have the old one.
REHOME_AFTER_S = 60.0


def rehome(tx: Connection, regions: Collection[str], fallback: str) -> int:
    """Move jobs that wait for a removed region to another one; returns how many.

    A retry that was sent there goes home. A job whose home is gone gets `fallback` as its home if
    its policy and allow-list permit. Otherwise it waits until an operator acts or it expires.
    """
    return tx.execute(
        text(
            """
            UPDATE jobs SET
                next_region = CASE WHEN home_region = ANY(:regions)
                    THEN home_region ELSE :fallback END,
                home_region = CASE WHEN home_region = ANY(:regions)
                    THEN home_region ELSE :fallback END
            WHERE id IN (
                SELECT id FROM jobs
                WHERE state = 'queued' AND created_at < now() - make_interval(secs => :age)
                  AND (home_region <> ALL(:regions) OR next_region <> ALL(:regions))
                  AND (home_region = ANY(:regions) OR (policy <> 'strict'
                    AND (allowed_regions IS NULL OR :fallback = ANY(allowed_regions))))
                ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED)
            """
        ).bindparams(bindparam("regions", type_=ARRAY(Text))),
        {
            "regions": list(regions),
            "fallback": fallback,
            "age": REHOME_AFTER_S,
            "most": REAP_BATCH,
        },
    ).rowcount


def reap_lost(tx: Connection) -> dict[JobState, Sequence[AttemptRef]]:
    """Take jobs back from workers that stopped renewing or exceeded the attempt's limit.

    Returns the attempts by their job's new state. Plan: ix_jobs_attempt_until, which has one entry
    for each busy worker. An index on `lease_until` would be written at every renewal.
    """
    rows = tx.execute(
        text(
            """
            SELECT id, begun, cancel_requested FROM jobs
            WHERE state = 'processing' AND (lease_until < now() OR attempt_until < now())
            ORDER BY attempt_until LIMIT :most FOR UPDATE SKIP LOCKED
            """
        ),
        {"most": REAP_BATCH},
    )
    return _take_from_workers(tx, [LostJob(*row) for row in rows])


# The last renewal, or the begin, was more than OVERDUE_S ago.
_LEFT_S = LEASE_S - OVERDUE_S
_OVERDUE = f"lease_until < now() + interval '{_LEFT_S} seconds'"


def overdue(conn: Connection) -> Sequence[OverdueAttempt]:
    """The attempts whose worker should have renewed by now. Plan: as for `reap_lost`."""
    rows = conn.execute(
        text(
            f"""
            SELECT late.id, late.fence, late.lease_token, late.region, late.profile, a.worker
            FROM (SELECT * FROM jobs WHERE state = 'processing' AND {_OVERDUE}
                  ORDER BY attempt_until LIMIT :most) AS late
            JOIN attempts AS a ON a.job_id = late.id AND a.fence = late.fence
            WHERE a.worker IS NOT NULL
            """
        ),
        {"most": REAP_BATCH},
    )
    return [OverdueAttempt(*row) for row in rows]


def reap_silent(
    tx: Connection, silent: Sequence[OverdueAttempt]
) -> dict[JobState, Sequence[AttemptRef]]:
    """Take jobs back, before their lease ends, from workers that have gone silent.

    A worker that has renewed since keeps its job. Returns the same as `reap_lost`.
    """
    rows = tx.execute(
        text(
            f"""
            SELECT id, begun, cancel_requested FROM jobs
            WHERE {STATE_BY_ID} = 'processing' AND {_OVERDUE} AND (id, fence) IN (
                SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])))
            FOR UPDATE SKIP LOCKED
            """
        ),
        {"ids": [one.id for one in silent], "fences": [one.fence for one in silent]},
    )
    return _take_from_workers(tx, [LostJob(*row) for row in rows])


def _take_from_workers(
    tx: Connection, lost: Sequence[LostJob]
) -> dict[JobState, Sequence[AttemptRef]]:
    """Requeue or end these locked jobs; see `reap_lost`."""
    by_state: dict[JobState, list[UUID]] = {}
    for job in lost:
        event = Event.CANCEL if job.cancel_requested else Event.LOSE
        after = move(JobState.PROCESSING, event, begun=job.begun)
        by_state.setdefault(after, []).append(job.id)
    these = f"id = ANY(:ids) AND {STATE_BY_ID} = 'processing'"
    taken: dict[JobState, Sequence[AttemptRef]] = {}
    for after, ids in by_state.items():
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


# Deadlines that passed longer ago, because no reaper ran, are left to the next full look: an open
# snapshot elsewhere keeps the index entries of all ended jobs, and they have the oldest deadlines.
_RECENT = "{column} > now() - interval '5 seconds'"
_DUE = " UNION ALL ".join(
    f"(SELECT {column} AS at FROM jobs WHERE {live} AND {_RECENT.format(column=column)}"
    f" ORDER BY {column} LIMIT 1)"
    for column, live in (
        ("deadline", f"deadline IS NOT NULL AND state NOT IN ({TERMINAL_SQL})"),
        ("queue_deadline", "state IN ('queued', 'starting')"),
    )
)


def next_deadline_s(conn: Connection) -> float | None:
    """Seconds until the next deadline of any job; 0 if one has just passed. None: there is none.

    Plan: one entry of ix_jobs_deadline and one of ix_jobs_queue_deadline.
    """
    due = text(f"SELECT extract(epoch FROM min(at) - clock_timestamp()) FROM ({_DUE}) AS due")
    left = conn.execute(due).scalar_one()
    return None if left is None else max(0.0, float(left))


def reap_deadlines(tx: Connection) -> dict[JobState, Sequence[EndedJob]]:
    """End every job whose deadline has passed. Returns them by the state that they are in now.

    The worker of a canceled one is not waited for: it may be in the middle of a long step. What it
    still writes is refused, because the job has ended.
    """
    expired: list[EndedJob] = []
    for column, code, detail in (
        ("deadline", "deadline_exceeded", "The deadline passed."),
        ("queue_deadline", "queue_timeout", "No worker was free within max_queue_seconds."),
    ):
        expired += end(
            tx,
            JobState.EXPIRED,
            _batch(f"state IN ('queued', 'starting') AND {column} <= now()", column),
            {"most": REAP_BATCH},
            outcome="not_begun",
            error_code=code,
            error_detail=detail,
            new_fence=True,
        )
    canceled = end(
        tx,
        JobState.CANCELED,
        _batch("state = 'processing' AND deadline <= now()", "deadline"),
        {"most": REAP_BATCH},
        outcome="canceled",
        error_code="deadline_exceeded",
        error_detail="The deadline passed.",
    )
    return {JobState.EXPIRED: expired, JobState.CANCELED: canceled}


def _batch(condition: str, order_by: str) -> str:
    """A condition that selects at most :most rows that nobody else has locked."""
    return (
        f"id IN (SELECT id FROM jobs WHERE {condition}"
        f" ORDER BY {order_by} LIMIT :most FOR UPDATE SKIP LOCKED)"
    )
