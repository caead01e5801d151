"""What is no longer needed, or never was."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Uuid, bindparam, text

IDEMPOTENCY_S = 86_400  # a key may be used for another request after this


def named_keys(tx: Connection, job_ids: Collection[UUID]) -> set[str]:
    """The object keys that the rows of these jobs name."""
    rows = tx.execute(
        text(
            "SELECT k FROM jobs, unnest(ARRAY[input_key, output_key]) AS k"
            " WHERE id = ANY(:ids) AND k IS NOT NULL"
        ).bindparams(bindparam("ids", type_=ARRAY(Uuid))),
        {"ids": list(job_ids)},
    )
    return set(rows.scalars())


def forget_idempotency(tx: Connection, *, limit: int) -> int:
    """Delete at most `limit` idempotency records past their time; returns how many."""
    return tx.execute(
        text(
            """
            WITH past AS MATERIALIZED (
                SELECT owner_id, key FROM idempotency_records
                WHERE created_at < now() - make_interval(secs => :age)
                ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
            )
            DELETE FROM idempotency_records AS r USING past
            WHERE r.owner_id = past.owner_id AND r.key = past.key
            """
        ),
        {"age": IDEMPOTENCY_S, "limit": limit},
    ).rowcount
