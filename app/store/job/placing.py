"""Placement's two statements: who waits, and putting chosen jobs on claimed workers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import merge
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Row, Text, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from app.domain.routing.candidates import RoutingRequest
from app.store.job.attempts import NO_WAIT
from app.store.models import WAITING_SQL
from stillmotion.states import Policy

TAKEN_FIRST = "priority, vstart, id"  # the indexes' order


@dataclass(frozen=True)
class Waiting:
    """A job that may be placed now."""

    request: RoutingRequest
    next_region: str  # where placement is tried first: home, or elsewhere after a failure
    priority: int
    begun: int  # attempts that started; above 0 this is a retry

    @property
    def job_id(self) -> UUID:
        return self.request.job_id


@dataclass(frozen=True)
class Offer:
    """A job that would take a worker of the target, and the way it came there."""

    job_id: UUID
    hops: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Placed:
    job_id: UUID
    fence: int
    token: str


PEEK = """
    SELECT w.* FROM unnest(:regions) AS r(name), LATERAL (
        SELECT id, home_region, next_region, policy, allowed_regions, priority, vstart, begun
        FROM jobs
        WHERE {waiting} AND profile = :profile AND next_region = r.name {and_}
        ORDER BY {order} LIMIT :most
    ) AS w
"""
FIRST = text(PEEK.format(waiting=WAITING_SQL, order=TAKEN_FIRST, and_="")).bindparams(
    bindparam("regions", type_=ARRAY(Text))
)
MOVABLE = text(
    PEEK.format(
        waiting=WAITING_SQL,
        order=TAKEN_FIRST,
        and_="AND policy <> 'strict' AND (allowed_regions IS NULL OR allowed_regions && :open)",
    )
).bindparams(bindparam("regions", type_=ARRAY(Text)), bindparam("open", type_=ARRAY(Text)))


def peek(
    tx: Connection, profile: str, regions: Sequence[str], *, open_regions: Sequence[str], limit: int
) -> list[Waiting]:
    """The jobs that come first, over all regions: at most `limit` of each.

    Within a queue in its fair order; virtual times of two queues do not compare, so of what stands
    first in each the older goes before.

    Where the head of a queue is full and holds jobs that may not go everywhere, also the first
    `limit` behind them that may leave for one of `open_regions`, which may have a worker. Nothing
    is locked: `place` finds out who is still there.
    """
    asked = {"profile": profile, "regions": list(regions), "most": limit}
    rows = tx.execute(FIRST, asked).fetchall()
    if len(rows) >= limit:
        counts = Counter(row.next_region for row in rows)
        bound = {row.next_region for row in rows if row.policy == "strict" or row.allowed_regions}
        full = [name for name in bound if counts[name] >= limit]
        if full:
            more = tx.execute(MOVABLE, asked | {"regions": full, "open": list(open_regions)})
            rows = [*rows, *more]
    queues: dict[str, list[Waiting]] = {}
    for row in sorted({row.id: row for row in rows}.values(), key=_place_in_queue):
        request = RoutingRequest(row.id, row.home_region, Policy(row.policy), row.allowed_regions)
        job = Waiting(request, row.next_region, row.priority, row.begun)
        queues.setdefault(row.next_region, []).append(job)
    return list(merge(*queues.values(), key=lambda job: (job.priority, job.job_id)))


def _place_in_queue(row: Row[Any]) -> tuple[int, float, UUID]:
    return row.priority, row.vstart, row.id


# `state || ''` keeps the planner at the primary key: with statistics of a minute ago it may take
# the queue for empty, and walk all of it for every job.
PLACE = text(
    f"""
    WITH picked AS MATERIALIZED (
        SELECT locked.id, offered.n FROM unnest(:ids) WITH ORDINALITY AS offered(id, n), LATERAL (
            SELECT id FROM jobs
            WHERE jobs.id = offered.id
              AND state || '' = 'queued' AND not_before IS NULL AND slot IS NOT FALSE
            FOR UPDATE SKIP LOCKED
        ) AS locked
        LIMIT :most
    ), numbered AS (
        SELECT id, n AS offer, row_number() OVER (ORDER BY n) AS n FROM picked
    ), placed AS (
        UPDATE jobs SET state = 'starting', fence = fence + 1, region = :target, placed_at = now()
        FROM numbered WHERE jobs.id = numbered.id AND {NO_WAIT}
        RETURNING jobs.id, fence, offer, n
    )
    INSERT INTO attempts (job_id, fence, region, token, hops)
    SELECT id, fence, :target, (CAST(:tokens AS text[]))[n], :hops -> CAST(offer - 1 AS int)
    FROM placed
    RETURNING job_id, fence, token
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("hops", type_=JSONB))


def place(
    tx: Connection, target: str, offers: Sequence[Offer], tokens: Sequence[str]
) -> list[Placed]:
    """Place the first of these jobs that still wait on `target`, one for each claim token.

    Rows that another dispatcher is placing are skipped, not waited for. That a job may go to
    `target` is the caller's to know.
    """
    if not offers or not tokens:
        return []
    rows = tx.execute(
        PLACE,
        {
            "ids": [offer.job_id for offer in offers],
            "hops": [offer.hops for offer in offers],
            "most": len(tokens),
            "target": target,
            "tokens": list(tokens),
        },
    )
    return [Placed(*row) for row in rows]
