"""Concurrency limits of keys: excess jobs are not refused but wait outside the placement index.

A job of a limited key gets one of the key's slots at submit or later, and holds it until it ends.
An advisory lock per key keeps two callers that count at the same time from granting a slot twice.
Plan: counting and granting walk ix_jobs_slot.
"""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Connection, text

from app.store.job.queue import head_sql
from app.store.models import LIMITED_SQL

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, 0))")
_HELD = text(f"SELECT count(*) FROM jobs WHERE owner_id = :owner AND slot AND {LIMITED_SQL}")
_LIMIT = text("SELECT max_concurrency FROM api_keys WHERE id = :owner")
# Skips locked rows: a cancel locks the job's row first and the key's lock second, so waiting for
# the row here would be a deadlock. Only `queued` jobs wait for a slot.
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
    """Whether the owner's next job gets a slot now. Locks the owner's slots until the commit."""
    tx.execute(_LOCK, {"owner": str(owner_id)})
    return int(tx.execute(_HELD, {"owner": owner_id}).scalar_one()) < limit


def limit_of(tx: Connection, owner_id: UUID, default_limit: int | None) -> int | None:
    """The key's own limit (0: unlimited), or `default_limit` if it has none. None: unlimited."""
    own: int | None = tx.execute(_LIMIT, {"owner": owner_id}).scalar_one()
    return default_limit if own is None else own or None


def waiting_owners(tx: Connection) -> list[UUID]:
    """The keys whose jobs wait for a slot. Plan: all of ix_jobs_slot, which has only live jobs."""
    rows = tx.execute(text(f"SELECT DISTINCT owner_id FROM jobs WHERE NOT slot AND {LIMITED_SQL}"))
    return list(rows.scalars())


def grant(tx: Connection, owner_id: UUID, default_limit: int | None) -> int:
    """Give the owner's free slots to the first jobs that wait for one; returns how many.

    `default_limit`: for keys without a limit of their own; None: unlimited. A key's own 0 is
    unlimited too. The limit is read each time, so raising it takes effect at once.
    """
    tx.execute(_LOCK, {"owner": str(owner_id)})
    limit = limit_of(tx, owner_id, default_limit)
    held = int(tx.execute(_HELD, {"owner": owner_id}).scalar_one())
    free = 1_000_000 if limit is None else limit - held
    if free <= 0:
        return 0
    return tx.execute(_GRANT, {"owner": owner_id, "free": free}).rowcount


def grant_all(tx: Connection, owners: Collection[UUID], default_limit: int | None) -> int:
    """`grant` for several owners, always in the same order, so that two callers cannot deadlock."""
    return sum(grant(tx, owner, default_limit) for owner in sorted(owners))
