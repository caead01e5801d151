"""Webhook deliveries: leased to a dispatcher, then to a worker, then recorded.

`next_at` is both the schedule and the lock: whoever takes a delivery moves it into the future, and
if they are never heard of again it simply comes due. `tries` is the fence: a worker that begins a
try raises it, so a message that comes twice begins nothing, and a worker that wakes late records
nothing. Only a begun try counts: a broker that loses messages uses up none of the schedule.
All times are the database's.
"""

from collections.abc import Collection
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Integer, Row, Uuid, bindparam, text

from app.domain.webhooks import PUBLISHED_LEASE_S, TRY_LEASE_S, Outcome, Verdict

MAX_ERROR_CHARS = 500

OPEN = "delivered_at IS NULL AND given_up_at IS NULL"


class Due(NamedTuple):
    """One try that may be made now: all that travels through the broker."""

    delivery_id: UUID
    tries: int  # made so far


def lease_due(tx: Connection, *, limit: int) -> list[Due]:
    """Take at most `limit` due deliveries for publishing, the longest due first.

    Rows that another dispatcher is taking are skipped, not waited for.
    """
    rows = tx.execute(
        text(
            f"""
            WITH due AS MATERIALIZED (
                SELECT id FROM webhook_deliveries
                WHERE {OPEN} AND next_at <= now()
                ORDER BY next_at LIMIT :limit FOR UPDATE SKIP LOCKED
            )
            UPDATE webhook_deliveries AS d SET next_at = now() + make_interval(secs => :lease)
            FROM due WHERE d.id = due.id
            RETURNING d.id, d.tries
            """
        ),
        {"limit": limit, "lease": PUBLISHED_LEASE_S},
    )
    return [Due(*row) for row in rows]


PAIRS = (bindparam("ids", type_=ARRAY(Uuid)), bindparam("tries", type_=ARRAY(Integer)))
PUT_BACK = text(
    f"""
    UPDATE webhook_deliveries AS d SET next_at = now()
    FROM unnest(:ids, :tries) AS named(id, tries)
    WHERE d.id = named.id AND d.tries = named.tries AND {OPEN}
    """
).bindparams(*PAIRS)
UNBEGUN = text(
    f"""
    SELECT d.id, d.tries FROM webhook_deliveries AS d
    JOIN unnest(:ids, :tries) AS named(id, tries) ON d.id = named.id AND d.tries = named.tries
    WHERE {OPEN} AND d.next_at > now()
    """
).bindparams(*PAIRS)


def _pairs(due: Collection[Due]) -> dict[str, list[Any]]:
    return {"ids": [d.delivery_id for d in due], "tries": [d.tries for d in due]}


def put_back(tx: Connection, due: Collection[Due]) -> None:
    """Return leases whose messages could not be published; a try that began anyway keeps its."""
    tx.execute(PUT_BACK, _pairs(due))


def unbegun(tx: Connection, due: Collection[Due]) -> list[Due]:
    """Those of the published tries that no worker has begun and whose lease still runs."""
    return [Due(*row) for row in tx.execute(UNBEGUN, _pairs(due))]


def begin(tx: Connection, due: Due) -> Row[Any] | None:
    """Begin a try: id, job_id, owner_id, event, url, and `tries` with this one counted.

    None: it was begun already, or the delivery has ended. Drop the message.
    """
    return tx.execute(
        text(
            f"""
            UPDATE webhook_deliveries
            SET tries = tries + 1, next_at = now() + make_interval(secs => :lease)
            WHERE id = :id AND tries = :tries AND {OPEN}
            RETURNING id, job_id, owner_id, event, url, tries
            """
        ),
        {"id": due.delivery_id, "tries": due.tries, "lease": TRY_LEASE_S},
    ).one_or_none()


def record(
    tx: Connection,
    delivery_id: UUID,
    tries: int,
    verdict: Verdict,
    *,
    status: int | None,
    error: str | None,
) -> bool:
    """Write what became of try number `tries`. False: another worker has begun the next one."""
    written = tx.execute(
        text(
            f"""
            UPDATE webhook_deliveries SET
                delivered_at = CASE WHEN :outcome = '{Outcome.DELIVERED}' THEN now() END,
                given_up_at = CASE WHEN :outcome = '{Outcome.GIVEN_UP}' THEN now() END,
                next_at = now() + make_interval(secs => :delay),
                last_status = :status, last_error = :error
            WHERE id = :id AND tries = :tries AND {OPEN}
            """
        ),
        {
            "id": delivery_id,
            "tries": tries,
            "outcome": verdict.outcome.value,
            "delay": verdict.delay_s,
            "status": status,
            "error": None if error is None else error[:MAX_ERROR_CHARS],
        },
    )
    return written.rowcount == 1
