"""Attempts: place, begin, renew, finish, fail.

Every statement names the fence it acts for. Zero rows means that somebody else owns the job now.
All times are the database's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import Text

from app.domain.errors import StillmotionError
from app.domain.job import MAX_BEGUN, Event, JobState, move
from app.domain.lease import LEASE_S
from app.store.fair import head_sql
from app.store.jobs import end
from app.store.models import WAITING_SQL


@dataclass(frozen=True)
class Waiting:
    """Jobs that may be placed now, counted up to a limit; `movable` ones may leave the region."""

    total: int
    movable: int


@dataclass(frozen=True)
class Placed:
    job_id: UUID
    fence: int
    token: str


def waiting(
    tx: Connection, profile: str, regions: Sequence[str], *, limit: int
) -> dict[str, Waiting]:
    """Jobs waiting for each region, counted no further than `limit`.

    The order is there for the planner alone: without it a LIMIT tempts it to scan the table.
    """
    rows = tx.execute(
        text(
            f"""
            SELECT r.name,
                (SELECT count(*) FROM (
                    SELECT 1 FROM jobs
                    WHERE {WAITING_SQL}
                      AND profile = :profile AND next_region = r.name
                    ORDER BY priority, vstart, id LIMIT :most) AS w),
                (SELECT count(*) FROM (
                    SELECT 1 FROM jobs
                    WHERE {WAITING_SQL} AND policy <> 'strict'
                      AND profile = :profile AND next_region = r.name
                    ORDER BY priority, vstart, id LIMIT :most) AS w)
            FROM unnest(:regions) AS r(name)
            """
        ).bindparams(bindparam("regions", type_=ARRAY(Text))),
        {"profile": profile, "regions": list(regions), "most": limit},
    )
    return {name: Waiting(total, movable) for name, total, movable in rows}


# In the WHERE of an UPDATE: its commit does not wait for the disk. Commits are written in order, so
# a crash of the database takes back the last few placements, begins and renewals together with all
# that followed from them; what a client was told (submit, cancel, every end) always waits.
NO_WAIT = "set_config('synchronous_commit', 'off', true) = 'off'"

PLACE = """
    WITH picked AS MATERIALIZED (
        SELECT id FROM jobs
        WHERE {waiting}
          AND profile = :profile AND next_region = :source {away}
        ORDER BY priority, vstart, id LIMIT :most FOR UPDATE SKIP LOCKED
    ), numbered AS (
        SELECT id, row_number() OVER () AS n FROM picked
    ), placed AS (
        UPDATE jobs SET state = 'starting', fence = fence + 1, region = :target, placed_at = now()
        FROM numbered WHERE jobs.id = numbered.id AND {no_wait}
        RETURNING jobs.id, fence, n
    )
    INSERT INTO attempts (job_id, fence, region, token, hops)
    SELECT id, fence, :target, (CAST(:tokens AS text[]))[n], :hops FROM placed
    RETURNING job_id, fence, token
"""
AWAY = "AND policy <> 'strict' AND (allowed_regions IS NULL OR :target = ANY(allowed_regions))"
HERE, ELSEWHERE = (
    text(PLACE.format(waiting=WAITING_SQL, away=away, no_wait=NO_WAIT)).bindparams(
        bindparam("hops", type_=JSONB)
    )
    for away in ("", AWAY)
)


def place(
    tx: Connection,
    profile: str,
    source: str,
    target: str,
    tokens: Sequence[str],
    hops: list[dict[str, Any]],
) -> list[Placed]:
    """Place the first jobs that wait for `source` on `target`, at most one for each claim token.

    Rows that another dispatcher is placing are skipped, not waited for.
    """
    rows = tx.execute(
        HERE if source == target else ELSEWHERE,
        {
            "profile": profile,
            "source": source,
            "target": target,
            "most": len(tokens),
            "tokens": list(tokens),
            "hops": hops,
        },
    )
    return [Placed(*row) for row in rows]


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
) -> Row[Any] | None:
    """Take the lease of the placement that `fence` names. None: it is stale, drop the message.

    The row has the job's columns and the claim's `token`.
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
            SELECT begun.*, noted.token FROM begun JOIN noted ON noted.job_id = begun.id
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
_THERE = "coalesce(:next_region, home_region)"
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
) -> Sequence[Row[Any]]:
    """Back to the queue: close the attempt, note the hop, keep the fence for the next to pass."""
    return tx.execute(
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
    ).fetchall()
