"""The queue of one key's jobs for its concurrency slots, for predictions.

Plan: every statement walks ix_jobs_slot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from app.store.job import slots
from app.store.job.queue import Backlog
from app.store.job.records import JobRecord
from app.store.models import LIMITED_SQL

SEEN_LIMIT = 2000  # of holders, and of jobs that wait for a slot

_HOLDERS = text(
    f"""
    SELECT state, region, cost, extract(epoch FROM now() - started_at)
    FROM jobs WHERE owner_id = :owner AND slot AND {LIMITED_SQL} LIMIT :most
    """
)
_BEFORE = text(
    f"""
    SELECT count(*), coalesce(sum(cost), 0) FROM (
        SELECT cost FROM jobs
        WHERE owner_id = :owner AND NOT slot AND {LIMITED_SQL}
          AND (priority, vstart, id) < (:priority, :vstart, :id)
        ORDER BY priority, vstart, id LIMIT :most) AS counted
    """
)


@dataclass(frozen=True)
class Holder:
    """A job that holds a slot. `elapsed_s`: since it began, if it is processing."""

    state: str
    region: str | None  # of its placement
    cost: float
    elapsed_s: float


@dataclass(frozen=True)
class SlotQueue:
    """What must end before a job of a limited key gets a slot."""

    limit: int
    holders: Sequence[Holder]
    ahead: Backlog  # jobs of the key that get a slot first


def queue_of(tx: Connection, job: JobRecord, default_limit: int | None) -> SlotQueue | None:
    """What a queued job waits for. None: it does not wait for a slot.

    `default_limit` as for `grant`. Plan: ix_jobs_slot.
    """
    if job.slot is not False:
        return None
    limit = slots.limit_of(tx, job.owner_id, default_limit)
    place = {"priority": job.priority, "vstart": job.vstart, "id": job.id}
    return None if limit is None else _queue(tx, job.owner_id, limit, place)


def queue_for_next(
    tx: Connection, owner_id: UUID, limit: int | None, *, priority: int
) -> SlotQueue | None:
    """What the owner's next job would wait for. None: it gets a slot at once, or needs none."""
    if limit is None:
        return None
    last = {"priority": priority, "vstart": float("inf"), "id": UUID(int=0)}
    queue = _queue(tx, owner_id, limit, last)
    return queue if len(queue.holders) >= limit else None


def _queue(tx: Connection, owner_id: UUID, limit: int, place: dict[str, object]) -> SlotQueue:
    values = {"owner": owner_id, "most": SEEN_LIMIT}
    holders = [
        Holder(state, region, float(cost), max(0.0, float(elapsed_s or 0.0)))
        for state, region, cost, elapsed_s in tx.execute(_HOLDERS, values)
    ]
    jobs, cost = tx.execute(_BEFORE, values | place).one()
    return SlotQueue(limit, holders, Backlog(jobs, float(cost)))
