"""Purge expired jobs, delete tombstones and idempotency keys; list referenced objects."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Uuid, bindparam, text

from app.store.job.records import PurgedJob
from app.store.models import UNDATED_SQL
from app.store.webhooks.models import OPEN_SQL

IDEMPOTENCY_S = 86_400  # after this a key may be used for another request
TEST_KEPT_S = 2_592_000  # deliveries that were tests of an endpoint


def named_keys(tx: Connection, job_ids: Collection[UUID]) -> set[str]:
    """The keys of the objects that these jobs still refer to; tombstones refer to none."""
    rows = tx.execute(
        text(
            "SELECT k FROM jobs, unnest(ARRAY[input_key, output_key]) AS k"
            " WHERE id = ANY(:ids) AND purged_at IS NULL AND k IS NOT NULL"
        ).bindparams(bindparam("ids", type_=ARRAY(Uuid))),
        {"ids": list(job_ids)},
    )
    return set(rows.scalars())


# A tombstone keeps the fields that usage and idempotency need, and nothing that a client wrote.
# Deliveries to the address that the job named go too; those to its owner's endpoints stay as a
# record, and nothing more is sent. SKIP LOCKED: whoever holds one of these is sending it or giving
# it up, and an endpoint that is disabled locks its deliveries in another order.
# Plan: ix_webhook_deliveries_job_id, ix_job_labels_job_id.
_PURGE = f"""
    WITH purged AS (
        UPDATE jobs SET purged_at = now(), prompt = '', negative_prompt = '',
            metadata = '{{{{}}}}', webhook_url = NULL
        WHERE {{where}} AND finished_at IS NOT NULL AND purged_at IS NULL
        RETURNING id, input_key, output_key
    ), unlabelled AS (
        DELETE FROM job_labels USING purged WHERE job_id = purged.id
    ), forgotten AS (
        DELETE FROM webhook_deliveries USING purged
        WHERE job_id = purged.id AND endpoint_id IS NULL
    ), given_up AS (
        UPDATE webhook_deliveries
        SET given_up_at = now(), leased_until = NULL, last_error = 'job_deleted'
        WHERE id IN (
            SELECT d.id FROM webhook_deliveries AS d JOIN purged ON purged.id = d.job_id
            WHERE endpoint_id IS NOT NULL AND {OPEN_SQL} FOR UPDATE OF d SKIP LOCKED)
    )
    SELECT id, input_key, output_key FROM purged
"""


def purge(tx: Connection, job_id: UUID, *, owner_id: UUID) -> PurgedJob | None:
    """Make one of the owner's ended jobs a tombstone.

    None: it has not ended, or it is a tombstone already.
    """
    where = "id = :id AND owner_id = :owner"
    row = tx.execute(
        text(_PURGE.format(where=where)), {"id": job_id, "owner": owner_id}
    ).one_or_none()
    return None if row is None else PurgedJob(*row)


def purge_expired(tx: Connection, *, limit: int) -> Sequence[PurgedJob]:
    """Make tombstones of at most `limit` expired jobs. Plan: ix_jobs_expires_at, in order."""
    where = """id IN (
        SELECT id FROM jobs WHERE purged_at IS NULL AND expires_at <= now()
        ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)"""
    rows = tx.execute(text(_PURGE.format(where=where)), {"limit": limit})
    return [PurgedJob(*row) for row in rows]


_DATE = text(
    f"""
    UPDATE jobs SET expires_at = finished_at + make_interval(secs => retention_s)
    WHERE id IN (
        SELECT id FROM jobs WHERE {UNDATED_SQL} ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED)
    """
)
# No job before its usage is added up. Attempts, deliveries and idempotency records go by cascade.
_DELETE_TOMBSTONES = text(
    """
    WITH gone AS MATERIALIZED (
        SELECT id FROM jobs
        WHERE purged_at < now() - make_interval(secs => :age)
          AND finished_at <= (SELECT ended_until FROM usage_roll_up)
        ORDER BY purged_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), unlabelled AS (
        DELETE FROM job_labels USING gone WHERE job_id = gone.id
    )
    DELETE FROM jobs USING gone WHERE jobs.id = gone.id
    """
)
_DELETE_TESTS = text(
    f"""
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries
        WHERE job_id IS NULL AND created_at < now() - make_interval(secs => :age)
          AND NOT ({OPEN_SQL})
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    """
)


def date_undated(tx: Connection, *, limit: int) -> int:
    """Let at most `limit` jobs expire that a release without retention ended; returns how many.

    Plan: ix_jobs_undated.
    """
    return tx.execute(_DATE, {"limit": limit}).rowcount


def delete_tombstones(tx: Connection, *, limit: int) -> int:
    """Delete at most `limit` jobs that were purged longer ago than IDEMPOTENCY_S; returns how many.

    Until then a request with their idempotency key finds them. Plan: ix_jobs_purged_at, in order.
    """
    return tx.execute(_DELETE_TOMBSTONES, {"age": IDEMPOTENCY_S, "limit": limit}).rowcount


def delete_tests(tx: Connection, *, limit: int) -> int:
    """Delete at most `limit` old deliveries that were tests of an endpoint; returns how many.

    Plan: ix_webhook_deliveries_tests, in order.
    """
    return tx.execute(_DELETE_TESTS, {"age": TEST_KEPT_S, "limit": limit}).rowcount


def keep_no_longer(tx: Connection, job_id: UUID, *, owner_id: UUID) -> None:
    """Let a live job expire the moment it ends, or now if it has ended.

    Before a cancel in the same transaction, so that the end is not announced with its content.
    """
    tx.execute(
        text(
            """
            UPDATE jobs SET retention_s = 0,
                expires_at = CASE WHEN finished_at IS NOT NULL THEN now() END
            WHERE id = :id AND owner_id = :owner
            """
        ),
        {"id": job_id, "owner": owner_id},
    )


def forget_idempotency(tx: Connection, *, limit: int) -> int:
    """Delete at most `limit` expired idempotency records; returns how many.

    Plan: ix_idempotency_records_created_at, in order. MATERIALIZED keeps the locking scan from
    being repeated inside the DELETE.
    """
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
