"""Concurrency limits of keys: the excess waits outside the placement index, and is not refused.

A job of a limited key holds one of its slots from submit, or gets one later, until it ends. An
advisory lock per key keeps two that count at the same time from handing out one slot twice.
"""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Connection, text

from app.store.job.queue import head_sql
from app.store.models import LIMITED_SQL

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, 0))")
_HELD = text(f"SELECT count(*) FROM jobs WHERE owner_id = :owner AND slot AND {LIMITED_SQL}")
# Locked rows are skipped: who cancels a job holds its row before it asks for the key's lock.
# Only `queued` jobs wait for a slot; the limit is read anew, so that raising it helps at once.
_GRANT = text(
    f"""
    UPDATE jobs SET slot = true, vstart = greatest(vstart, coalesce((
        {head_sql(profile="jobs.profile", region="jobs.next_region", priority="jobs.priority")}
    ), 0))
    WHERE id IN (
        SELECT id FROM jobs
        WHERE owner_id = :owner AND NOT slot AND {LIMITED_SQL}
        ORDER BY priority, vstart, id LIMIT :free FOR UPDATE SKIP LOCKED)
    """
)


def take(tx: Connection, owner_id: UUID, limit: int) -> bool:
    """Whether the owner's next job gets a slot at once. Locks the owner's slots until commit."""
    tx.execute(_LOCK, {"owner": str(owner_id)})
    return int(tx.execute(_HELD, {"owner": owner_id}).scalar_one()) < limit


def waiting_owners(tx: Connection) -> list[UUID]:
    """The keys with jobs that wait for a slot."""
    rows = tx.execute(text(f"SELECT DISTINCT owner_id FROM jobs WHERE NOT slot AND {LIMITED_SQL}"))
    return list(rows.scalars())


def grant(tx: Connection, owner_id: UUID, default_limit: int | None) -> int:
    """Give the owner's free slots to the first jobs that wait for one; returns how many.

    `default_limit`: of keys without one of their own; None: no limit.
    """
    tx.execute(_LOCK, {"owner": str(owner_id)})
    own = text("SELECT max_concurrency FROM api_keys WHERE id = :owner")
    limit = tx.execute(own, {"owner": owner_id}).scalar_one()
    limit = default_limit if limit is None else limit
    held = int(tx.execute(_HELD, {"owner": owner_id}).scalar_one())
    free = 1_000_000 if limit is None else limit - held
    if free <= 0:
        return 0
    return tx.execute(_GRANT, {"owner": owner_id, "free": free}).rowcount


def grant_all(tx: Connection, owners: Collection[UUID], default_limit: int | None) -> int:
    """`grant` for several owners, in an order that keeps two callers from a deadlock."""
    return sum(grant(tx, owner, default_limit) for owner in sorted(owners))
