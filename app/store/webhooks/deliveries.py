"""Webhook deliveries: leased to a dispatcher, then to a worker, then recorded.

`next_at` is both the schedule and the lock: whoever takes a delivery moves it into the future, and
if they vanish it simply comes due. `tries` is the fence: a worker that begins a try raises it, so a
message that arrives twice begins nothing, and a worker that wakes late records nothing. Only begun
tries count, so a broker that loses messages uses up none of the schedule.

At most RECEIVER_LIMIT tries of one receiver are leased at a time. A receiver that never answers
keeps few workers busy, however much it is owed. All times are the database's.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Integer, Uuid, bindparam, text

from app.domain.webhooks import (
    PUBLISHED_LEASE_S,
    RECEIVER_LIMIT,
    TRY_LEASE_S,
    Outcome,
    Verdict,
)
from app.store.webhooks.models import OPEN_SQL as OPEN
from app.store.webhooks.models import RECEIVER_SQL as RECEIVER
from app.store.webhooks.records import BegunTry, DeliveryRecord, OwnDelivery, delivery_columns

MAX_ERROR_CHARS = 500

# Part of the statement that ends jobs (`ended`): deliveries to the address that each job names, and
# to its owner's endpoints. FOR SHARE waits for whoever is disabling or removing an endpoint, then
# looks again: the foreign key would otherwise refuse the end of the job.
OWED = """
    INSERT INTO webhook_deliveries (job_id, owner_id, endpoint_id, event, url)
    SELECT id, owner_id, NULL, :event, webhook_url FROM ended
    WHERE webhook_url IS NOT NULL AND :event = ANY(coalesce(webhook_events, ARRAY[:event]))
    UNION ALL
    SELECT ended.id, ended.owner_id, hook.id, :event, hook.url
    FROM ended CROSS JOIN LATERAL (
        SELECT id, url FROM webhook_endpoints
        WHERE owner_id = ended.owner_id AND disabled_at IS NULL AND :event = ANY(events)
        FOR SHARE
    ) AS hook
"""


class Due(NamedTuple):
    """One try that may be made now, as it travels through the broker."""

    delivery_id: UUID
    tries: int  # made so far


# Every receiver with open deliveries, by a skip scan of ix_webhook_deliveries_receiver: one probe
# for each receiver, however much it is owed. The EXISTS, on ix_webhook_deliveries_due, stops it
# before the first probe while nothing is due.
RECEIVERS = f"""
    (SELECT {RECEIVER} AS name FROM webhook_deliveries
     WHERE {OPEN} AND EXISTS (SELECT FROM webhook_deliveries WHERE {OPEN} AND next_at <= now())
     ORDER BY {RECEIVER} LIMIT 1)
    UNION ALL
    SELECT (SELECT {RECEIVER} FROM webhook_deliveries
            WHERE {OPEN} AND {RECEIVER} > receivers.name ORDER BY {RECEIVER} LIMIT 1)
    FROM receivers WHERE receivers.name IS NOT NULL
"""
# SKIP LOCKED: rows that another dispatcher is taking are skipped, not waited for. Two dispatchers
# that look at the same moment count the same leases, so both may fill a receiver's limit.
# MATERIALIZED: `busy` is counted once, not for each receiver, and `due` locks its rows once. `busy`
# walks ix_webhook_deliveries_leased, and `due` walks ix_webhook_deliveries_receiver.
LEASE = """
    WITH RECURSIVE receivers (name) AS ({receivers}), busy AS MATERIALIZED (
        SELECT {receiver} AS name, count(*) AS n FROM webhook_deliveries
        WHERE leased_until > now() AND leased_until IS NOT NULL AND {open} GROUP BY 1
    ), due AS MATERIALIZED (
        SELECT first.id FROM receivers LEFT JOIN busy ON busy.name = receivers.name
        CROSS JOIN LATERAL (
            SELECT id, next_at FROM webhook_deliveries
            WHERE {open} AND {receiver} = receivers.name AND next_at <= now()
            ORDER BY next_at
            LIMIT greatest(0, least(:each - coalesce(busy.n, 0), :limit)) FOR UPDATE SKIP LOCKED
        ) AS first
        ORDER BY first.next_at LIMIT :limit
    ), until AS (
        SELECT now() + make_interval(secs => :lease) AS t
    )
    UPDATE webhook_deliveries AS d SET next_at = until.t, leased_until = until.t
    FROM until WHERE d.id = ANY(ARRAY(SELECT id FROM due))
    RETURNING d.id, d.tries
"""
LEASE_ANY = text(LEASE.format(receivers=RECEIVERS, receiver=RECEIVER, open=OPEN))
LEASE_SAME = text(
    LEASE.format(
        receivers=f"SELECT {RECEIVER.replace('url', 'CAST(:url AS text)')}",
        receiver=RECEIVER,
        open=OPEN,
    )
)


def lease_due(tx: Connection, *, limit: int, each: int = RECEIVER_LIMIT) -> list[Due]:
    """Take at most `limit` due deliveries for publishing, the longest due first.

    No receiver gets more than `each` tries under way.
    """
    values = {"limit": limit, "each": each, "lease": PUBLISHED_LEASE_S}
    return [Due(*row) for row in tx.execute(LEASE_ANY, values)]


def lease_same(tx: Connection, url: str, *, each: int = RECEIVER_LIMIT) -> Due | None:
    """Take the next due delivery to the receiver of `url`, if it may have another try under way."""
    values = {"url": url, "limit": 1, "each": each, "lease": PUBLISHED_LEASE_S}
    row = tx.execute(LEASE_SAME, values).one_or_none()
    return None if row is None else Due(*row)


PAIRS = (bindparam("ids", type_=ARRAY(Uuid)), bindparam("tries", type_=ARRAY(Integer)))
PUT_BACK = text(
    f"""
    UPDATE webhook_deliveries AS d SET next_at = now(), leased_until = NULL
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
    """Give up the leases of messages that could not be published. Tries that began keep theirs."""
    tx.execute(PUT_BACK, _pairs(due))


def unbegun(tx: Connection, due: Collection[Due]) -> list[Due]:
    """The published tries that no worker has begun and whose lease still runs."""
    return [Due(*row) for row in tx.execute(UNBEGUN, _pairs(due))]


def begin(tx: Connection, due: Due) -> BegunTry | None:
    """Begin a try, and count it in `tries`.

    None: the try was begun already or the delivery has ended; drop the message.
    """
    row = tx.execute(
        text(
            f"""
            WITH begun AS (
                UPDATE webhook_deliveries SET
                    tries = tries + 1, last_tried_at = now(),
                    next_at = now() + make_interval(secs => :lease),
                    leased_until = now() + make_interval(secs => :lease)
                WHERE id = :id AND tries = :tries AND {OPEN}
                RETURNING *
            )
            SELECT {delivery_columns("begun")}, secret.version AS secret_version,
                coalesce(secret.previous_until > now(), false) AS previous_signs
            FROM begun
            JOIN LATERAL (
                SELECT webhook_secret_version, webhook_previous_until FROM api_keys
                WHERE api_keys.id = begun.owner_id AND begun.endpoint_id IS NULL
                UNION ALL
                SELECT webhook_secret_version, webhook_previous_until FROM webhook_endpoints AS hook
                WHERE hook.id = begun.endpoint_id
            ) AS secret (version, previous_until) ON true
            """
        ),
        {"id": due.delivery_id, "tries": due.tries, "lease": TRY_LEASE_S},
    ).one_or_none()
    return None if row is None else BegunTry(*row)


def record(
    tx: Connection,
    delivery_id: UUID,
    tries: int,
    verdict: Verdict,
    *,
    status: int | None,
    error: str | None,
) -> bool:
    """Write the outcome of try number `tries`. False: another worker has begun the next one."""
    written = tx.execute(
        text(
            f"""
            UPDATE webhook_deliveries SET
                delivered_at = CASE WHEN :outcome = '{Outcome.DELIVERED}' THEN now() END,
                given_up_at = CASE
                    WHEN :outcome IN ('{Outcome.GIVEN_UP}', '{Outcome.GONE}') THEN now() END,
                next_at = now() + make_interval(secs => :delay), leased_until = NULL,
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


STATES = {
    "pending": OPEN,
    "delivered": "delivered_at IS NOT NULL",
    "failed": "given_up_at IS NOT NULL",
}


def page(
    tx: Connection,
    owner_id: UUID,
    *,
    limit: int,
    after: UUID | None = None,
    state: str | None = None,
    event: str | None = None,
    job_id: UUID | None = None,
    endpoint_id: UUID | None = None,
) -> Sequence[DeliveryRecord]:
    """At most `limit` of the owner's deliveries, newest first, older than the delivery `after`."""
    exact = {"event": event, "job_id": job_id, "endpoint_id": endpoint_id}
    where = ["owner_id = :owner"]
    where += [f"{column} = :{column}" for column, value in exact.items() if value is not None]
    if state is not None:
        where.append(STATES[state])
    if after is not None:
        where.append(
            "(created_at, id) < (SELECT created_at, id FROM webhook_deliveries"
            " WHERE id = :after AND owner_id = :owner)"
        )
    rows = tx.execute(
        text(
            f"SELECT {delivery_columns()} FROM webhook_deliveries WHERE {' AND '.join(where)}"
            " ORDER BY created_at DESC, id DESC LIMIT :limit"
        ),
        {"owner": owner_id, "limit": limit, "after": after, **exact},
    )
    return [DeliveryRecord(*row) for row in rows]


def get(tx: Connection, delivery_id: UUID, *, owner_id: UUID) -> OwnDelivery | None:
    """One of the owner's deliveries."""
    row = tx.execute(
        text(
            f"""
            SELECT {delivery_columns("d")}, hook.disabled_at IS NOT NULL AS disabled
            FROM webhook_deliveries AS d LEFT JOIN webhook_endpoints AS hook
                ON hook.id = d.endpoint_id
            WHERE d.id = :id AND d.owner_id = :owner
            """
        ),
        {"id": delivery_id, "owner": owner_id},
    ).one_or_none()
    return None if row is None else OwnDelivery(*row)


def redeliver(tx: Connection, delivery_id: UUID, *, owner_id: UUID) -> DeliveryRecord | None:
    """Make a delivery due now, under the same id and with the whole schedule ahead of it again.

    None: a try is under way, or its endpoint was disabled a moment ago.
    """
    row = tx.execute(
        text(
            f"""
            UPDATE webhook_deliveries AS d SET
                tries_before = tries, next_at = now(), leased_until = NULL,
                delivered_at = NULL, given_up_at = NULL
            WHERE id = :id AND owner_id = :owner
              AND NOT ({OPEN} AND leased_until IS NOT NULL AND leased_until > now())
              AND (endpoint_id IS NULL OR EXISTS (
                  SELECT FROM webhook_endpoints
                  WHERE id = d.endpoint_id AND disabled_at IS NULL FOR SHARE))
            RETURNING {delivery_columns("d")}
            """
        ),
        {"id": delivery_id, "owner": owner_id},
    ).one_or_none()
    return None if row is None else DeliveryRecord(*row)
