"""Placement's two statements: which jobs wait, and putting chosen ones on claimed workers."""

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
    """A job that would take a worker of the target, and the hops that led there."""

    job_id: UUID
    hops: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Placed:
    job_id: UUID
    fence: int
    token: str


_HEAD = f"""
    SELECT w.* FROM unnest(:regions) AS r(name), LATERAL (
        SELECT id, home_region, next_region, policy, allowed_regions, priority, vstart, begun
        FROM jobs
        WHERE {WAITING_SQL} AND profile = :profile AND next_region = r.name {{only}}
        ORDER BY priority, vstart, id LIMIT :most
    ) AS w
"""
_REGIONS = bindparam("regions", type_=ARRAY(Text))
# Each walks the start of ix_jobs_fair (MOVABLE: of ix_jobs_fair_movable) once per region.
FIRST = text(_HEAD.format(only="")).bindparams(_REGIONS)
FRESH = text(_HEAD.format(only="AND begun = 0")).bindparams(_REGIONS)
MOVABLE = text(
    _HEAD.format(
        only="AND policy <> 'strict' AND (allowed_regions IS NULL OR allowed_regions && :open)"
    )
).bindparams(_REGIONS, bindparam("open", type_=ARRAY(Text)))


def peek(
    tx: Connection, profile: str, regions: Sequence[str], *, open_regions: Sequence[str], limit: int
) -> list[Waiting]:
    """The jobs that come first, over all regions: at most `limit` of each.

    Each queue is in its fair order. Virtual times of two queues do not compare, so of the two
    jobs at their heads the older goes first.

    What may not run must not hide what may. Where a full head holds jobs that may not go
    everywhere, the first `limit` that may leave for one of `open_regions` (which may have a worker)
    are added; where at least half of a full head are retries, which a budget may hold back, the
    first `limit` fresh jobs are. Nothing is locked: `place` finds out which still wait.
    """
    values = {"profile": profile, "regions": list(regions), "most": limit}
    rows = tx.execute(FIRST, values).fetchall()
    if len(rows) >= limit:
        counts = Counter(row.next_region for row in rows)
        full = {name for name, count in counts.items() if count >= limit}
        bound = {row.next_region for row in rows if row.policy == "strict" or row.allowed_regions}
        if movable := full & bound:
            movable_values = {"regions": list(movable), "open": list(open_regions)}
            rows = [*rows, *tx.execute(MOVABLE, values | movable_values)]
        retries = Counter(row.next_region for row in rows if row.begun > 0)
        if hidden := {name for name in full if 2 * retries[name] >= limit}:
            rows = [*rows, *tx.execute(FRESH, values | {"regions": list(hidden)})]
    queues: dict[str, list[Waiting]] = {}
    for row in sorted({row.id: row for row in rows}.values(), key=_place_in_queue):
        request = RoutingRequest(row.id, row.home_region, Policy(row.policy), row.allowed_regions)
        job = Waiting(request, row.next_region, row.priority, row.begun)
        queues.setdefault(row.next_region, []).append(job)
    return list(merge(*queues.values(), key=lambda job: (job.priority, job.job_id)))


def _place_in_queue(row: Row[Any]) -> tuple[int, float, UUID]:
    return row.priority, row.vstart, row.id


# An expression that no index has keeps the planner at the primary key. With statistics from a
# minute ago it may take the queue for empty, and walk all of it for every job.
_WAITING_BY_ID = WAITING_SQL.replace("state =", "state || '' =")
PLACE = text(
    f"""
    WITH picked AS MATERIALIZED (
        SELECT locked.id, offered.n FROM unnest(:ids) WITH ORDINALITY AS offered(id, n), LATERAL (
            SELECT id FROM jobs WHERE jobs.id = offered.id AND {_WAITING_BY_ID}
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

    Skips rows that another dispatcher is placing. The caller must know that each job may go to
    `target`.
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
