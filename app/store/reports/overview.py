"""What operators watch, in statements that stay cheap however long the queue is.

Plan: each walks one partial index up to its limit: ix_jobs_queue_deadline,
ix_jobs_attempt_until, ix_jobs_finished_at or ix_jobs_failed.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection, text

from app.store.models import NEVER_SQL
from app.store.record import record

COUNTED = 20_000  # more live jobs of a kind are reported as this many
SAMPLED = 1_000  # ended jobs that percentiles are computed from
WINDOW_S = 3600.0
WAITING_SHOWN = 50
FAILURES_SHOWN = 20

_LIVE = text(
    """
    SELECT state, region, count(*) FROM (
        (SELECT state, CASE state WHEN 'queued' THEN next_region ELSE region END AS region
         FROM jobs WHERE state IN ('queued', 'starting') ORDER BY queue_deadline LIMIT :most)
        UNION ALL
        (SELECT state, region FROM jobs WHERE state = 'processing'
         ORDER BY attempt_until LIMIT :most)
    ) AS live GROUP BY 1, 2
    """
)
_ENDED = text(
    """
    SELECT count(*) AS sampled,
           count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           count(*) FILTER (WHERE state = 'canceled') AS canceled,
           count(*) FILTER (WHERE state = 'expired') AS expired,
           percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY
               extract(epoch FROM started_at - created_at)) AS queue,
           percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY
               CASE state WHEN 'succeeded' THEN extract(epoch FROM finished_at - started_at) END
           ) AS render
    FROM (SELECT state, created_at, started_at, finished_at FROM jobs
          WHERE finished_at > now() - make_interval(secs => :window)
          ORDER BY finished_at DESC LIMIT :most) AS ended
    """
)
_WAITING = text(
    f"""
    SELECT waiting.*, api_keys.name AS key_name FROM (
        SELECT id, owner_id, state, profile, home_region, policy, priority, slot, not_before,
               CASE state WHEN 'queued' THEN next_region ELSE region END AS region,
               extract(epoch FROM now() - created_at) AS waited_s,
               extract(epoch FROM queue_deadline - now()) AS expires_in_s,
               extract(epoch FROM nullif(not_before, {NEVER_SQL}) - now()) AS backoff_s
        FROM jobs WHERE state IN ('queued', 'starting') ORDER BY queue_deadline LIMIT :most
    ) AS waiting JOIN api_keys ON api_keys.id = owner_id ORDER BY expires_in_s
    """
)
_FAILURES = text(
    """
    SELECT id, state, profile, coalesce(region, home_region) AS region, begun,
           error_code, error_detail, finished_at
    FROM jobs WHERE state IN ('expired', 'failed') ORDER BY finished_at DESC LIMIT :most
    """
)


@record
class EndedStats:
    """How the last jobs ended, and [p50, p99] of their times in seconds; None if there are none."""

    sampled: int
    succeeded: int
    failed: int
    canceled: int
    expired: int
    queue: list[float | None] | None  # from submit to the last begin
    render: list[float | None] | None  # from there to the end, of successful jobs


@record
class WaitingJob:
    """A job that has not begun. Seconds are from now."""

    id: UUID
    owner_id: UUID
    state: str
    profile: str
    home_region: str
    policy: str
    priority: int
    slot: bool | None
    not_before: datetime | None
    region: str | None
    waited_s: Decimal
    expires_in_s: Decimal
    backoff_s: Decimal | None
    key_name: str


@record
class FailedJob:
    """A job that failed or expired."""

    id: UUID
    state: str
    profile: str
    region: str
    begun: int
    error_code: str | None
    error_detail: str | None
    finished_at: datetime


def live(tx: Connection) -> dict[tuple[str, str], int]:
    """Live jobs by (state, region); for queued jobs the region where they wait."""
    return {(state, region): count for state, region, count in tx.execute(_LIVE, {"most": COUNTED})}


def ended(tx: Connection) -> EndedStats:
    """How the last SAMPLED jobs within WINDOW_S ended, and how long they took."""
    return EndedStats(*tx.execute(_ENDED, {"window": WINDOW_S, "most": SAMPLED}).one())


def waiting(tx: Connection) -> Sequence[WaitingJob]:
    """The WAITING_SHOWN jobs without a worker that will expire first."""
    return [WaitingJob(*row) for row in tx.execute(_WAITING, {"most": WAITING_SHOWN})]


def failures(tx: Connection) -> Sequence[FailedJob]:
    """The last FAILURES_SHOWN jobs that failed or expired, newest first."""
    return [FailedJob(*row) for row in tx.execute(_FAILURES, {"most": FAILURES_SHOWN})]
