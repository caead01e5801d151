"""Webhook deliveries: leased to a dispatcher, then to a worker, then recorded.

`next_at` is both the schedule and the lock: whoever takes a delivery moves it into the future, and
if they vanish it simply comes due. `tries` is the fence: a worker that begins a try raises it, so a
message that arrives twice begins nothing, and a worker that wakes late records nothing. Only begun
tries count, so a broker that loses messages uses up none of the schedule.

At most RECEIVER_LIMIT tries of one receiver, and OWNER_LIMIT of one owner, are leased at a time. A
receiver that never answers keeps few workers busy, however much it is owed, and so does an owner
with any number of such receivers. All times are the database's.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Integer, Uuid, bindparam, text

from app.domain.webhooks import (
    OWNER_LIMIT,
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


# Every pair of receiver and owner with open deliveries, by a skip scan of
# ix_webhook_deliveries_pair: one probe for each pair, however much it is owed. The EXISTS, on
# ix_webhook_deliveries_due, stops it before the first probe while nothing is due.
EVERY_PAIR = f"""
    (SELECT {RECEIVER}, owner_id FROM webhook_deliveries
     WHERE {OPEN} AND EXISTS (SELECT FROM webhook_deliveries WHERE {OPEN} AND next_at <= now())
     ORDER BY {RECEIVER}, owner_id LIMIT 1)
    UNION ALL
    SELECT next.receiver, next.owner_id FROM pairs CROSS JOIN LATERAL (
        SELECT {RECEIVER} AS receiver, owner_id FROM webhook_deliveries
        WHERE {OPEN} AND ({RECEIVER}, owner_id) > (pairs.receiver, pairs.owner_id)
        ORDER BY {RECEIVER}, owner_id LIMIT 1
    ) AS next
"""
ONE_PAIR = f"SELECT {RECEIVER.replace('url', 'CAST(:url AS text)')}, CAST(:owner AS uuid)"
# SKIP LOCKED: rows that another dispatcher is taking are skipped, not waited for. Two dispatchers
# that look at the same moment count the same leases, so both may fill a limit.
# MATERIALIZED: leases are counted once, by a walk along ix_webhook_deliveries_leased, and rows are
# locked once.
# At a receiver with too little room, owners take turns: whoever has the fewest tries under way is
# next. So nobody's backlog there delays another's first message.
LEASE = """
    WITH RECURSIVE pairs (receiver, owner_id) AS ({pairs}), leased AS MATERIALIZED (
        SELECT {receiver} AS receiver, owner_id, count(*) AS n FROM webhook_deliveries
        WHERE leased_until > now() AND leased_until IS NOT NULL AND {open} GROUP BY 1, 2
    ), room AS MATERIALIZED (
        SELECT pairs.receiver, pairs.owner_id, coalesce(leased.n, 0) AS under_way,
            :each - coalesce(at_receiver.n, 0) AS at_receiver,
            nullif(coalesce(api_keys.webhooks_in_flight, :per_owner), 0)
                - coalesce(of_owner.n, 0) AS of_owner -- NULL: unlimited
        FROM pairs JOIN api_keys ON api_keys.id = pairs.owner_id
        LEFT JOIN leased USING (receiver, owner_id)
        LEFT JOIN (SELECT receiver, sum(n) AS n FROM leased GROUP BY 1) AS at_receiver
            ON at_receiver.receiver = pairs.receiver
        LEFT JOIN (SELECT owner_id, sum(n) AS n FROM leased GROUP BY 1) AS of_owner
            ON of_owner.owner_id = pairs.owner_id
    ), found AS MATERIALIZED (
        SELECT room.*, first.id, first.next_at, room.under_way + row_number() OVER (
            PARTITION BY room.receiver, room.owner_id ORDER BY first.next_at, first.id) AS turn
        FROM room CROSS JOIN LATERAL (
            SELECT id, next_at FROM webhook_deliveries
            WHERE {open} AND {receiver} = room.receiver AND owner_id = room.owner_id
              AND next_at <= now()
            ORDER BY next_at
            LIMIT greatest(0, least(room.at_receiver, room.of_owner, :limit)) FOR UPDATE SKIP LOCKED
        ) AS first
    ), fits_receiver AS (
        SELECT *, row_number() OVER (
            PARTITION BY receiver ORDER BY turn, next_at, id) <= at_receiver AS fits FROM found
    ), fits_both AS (
        SELECT id, next_at, of_owner IS NULL OR row_number() OVER (
            PARTITION BY owner_id ORDER BY next_at, id) <= of_owner AS fits
        FROM fits_receiver WHERE fits
    ), until AS (
        SELECT now() + make_interval(secs => :lease) AS t
    )
    UPDATE webhook_deliveries AS d SET next_at = until.t, leased_until = until.t
    FROM until WHERE d.id = ANY(ARRAY(
        SELECT id FROM fits_both WHERE fits ORDER BY next_at LIMIT :limit))
    RETURNING d.id, d.tries
"""
LEASE_ANY = text(LEASE.format(pairs=EVERY_PAIR, receiver=RECEIVER, open=OPEN))
LEASE_NEXT = text(LEASE.format(pairs=ONE_PAIR, receiver=RECEIVER, open=OPEN))


def lease_due(
    tx: Connection, *, limit: int, each: int = RECEIVER_LIMIT, per_owner: int = OWNER_LIMIT
) -> list[Due]:
    """Take at most `limit` due deliveries for publishing, the longest due first.

    No receiver gets more than `each` tries under way, and no owner has more than `per_owner`, or
    than its own limit; 0: unlimited.
    """
    values = {"limit": limit, "each": each, "per_owner": per_owner, "lease": PUBLISHED_LEASE_S}
    return [Due(*row) for row in tx.execute(LEASE_ANY, values)]


def lease_next(
    tx: Connection,
    owner_id: UUID,
    url: str,
    *,
    each: int = RECEIVER_LIMIT,
    per_owner: int = OWNER_LIMIT,
) -> Due | None:
    """Take the owner's next due delivery to the receiver of `url`, within both limits."""
    values = {"url": url, "owner": owner_id, "limit": 1, "lease": PUBLISHED_LEASE_S}
    values |= {"each": each, "per_owner": per_owner}
    row = tx.execute(LEASE_NEXT, values).one_or_none()
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
                coalesce(secret.previous_until > now(), false) AS previous_signs,
                (SELECT revoked_at IS NOT NULL FROM api_keys WHERE id = begun.owner_id)
                    AS key_revoked,
                jobs.traceparent, jobs.region, jobs.fence
            FROM begun LEFT JOIN jobs ON jobs.id = begun.job_id
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


class Place(NamedTuple):
    """A place in the list of deliveries. It outlives the delivery that was there."""

    created_at: datetime
    id: UUID


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
    after: Place | None = None,
    state: str | None = None,
    event: str | None = None,
    job_id: UUID | None = None,
    endpoint_id: UUID | None = None,
) -> Sequence[DeliveryRecord]:
    """At most `limit` of the owner's deliveries, newest first, older than `after`."""
    exact = {"event": event, "job_id": job_id, "endpoint_id": endpoint_id}
    where = ["owner_id = :owner"]
    where += [f"{column} = :{column}" for column, value in exact.items() if value is not None]
    if state is not None:
        where.append(STATES[state])
    if after is not None:
        where.append("(created_at, id) < (:after_at, :after_id)")
    rows = tx.execute(
        text(
            f"SELECT {delivery_columns()} FROM webhook_deliveries WHERE {' AND '.join(where)}"
            " ORDER BY created_at DESC, id DESC LIMIT :limit"
        ),
        {
            "owner": owner_id,
            "limit": limit,
            **({} if after is None else {"after_at": after.created_at, "after_id": after.id}),
            **exact,
        },
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
