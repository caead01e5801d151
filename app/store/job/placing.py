"""Placement: read the heads of the queues, and place chosen jobs on claimed workers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import merge
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Text, TextClause, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from app.domain.routing.candidates import RoutingRequest
from app.store.fixed import Fixed
from app.store.job.queue import TAKEN_ORDER, walk_sql
from app.store.models import STATE_BY_ID, WAITING_SQL
from app.store.record import record
from app.store.session import NO_WAIT
from stillmotion.states import Policy


@dataclass(frozen=True)
class Waiting:
    """A job that may be placed now."""

    request: RoutingRequest
    next_region: str  # where placement is tried first: home, or elsewhere after a failure
    priority: int
    begun: int  # attempts that started; above 0 this is a retry
    needs: int = 0  # the level that its worker must speak

    @property
    def job_id(self) -> UUID:
        return self.request.job_id


@dataclass(frozen=True)
class Offer:
    """A job that would take a worker of the target, and the hops that led there."""

    job_id: UUID
    hops: list[dict[str, Any]] = field(default_factory=list)


@record
class Placed:
    """A job that has just been placed, with its new fence and the claim it took."""

    job_id: UUID
    fence: int
    token: str
    traceparent: str | None


@record
class _Head:
    """What placing reads of a waiting job."""

    id: UUID
    home_region: str
    next_region: str
    policy: str
    allowed_regions: list[str] | None
    priority: int
    vstart: float
    begun: int
    needs: int

    @property
    def place_in_queue(self) -> tuple[int, float, UUID]:
        return self.priority, self.vstart, self.id  # TAKEN_ORDER


_COLUMNS = "id, home_region, next_region, policy, allowed_regions, priority, vstart, begun, needs"


def _heads(only: str) -> TextClause:
    """Three walks for each region along ix_jobs_waiting; MOVABLE: ix_jobs_waiting_movable."""
    return text(
        f"""
        SELECT head.* FROM unnest(:regions) AS r(name), LATERAL (
            SELECT * FROM (
                {walk_sql(_COLUMNS, profile=":profile", region="r.name", only=only)}
            ) AS found ORDER BY {TAKEN_ORDER} LIMIT :most
        ) AS head
        """
    ).bindparams(bindparam("regions", type_=ARRAY(Text)))


FIRST = Fixed(_heads("true"))
FRESH = Fixed(_heads("begun = 0"))
PLAIN = Fixed(_heads("needs = 0"))
MOVABLE = Fixed(
    _heads(
        "policy <> 'strict' AND (allowed_regions IS NULL OR allowed_regions && :open)"
    ).bindparams(bindparam("open", type_=ARRAY(Text)))
)


def peek(
    tx: Connection, profile: str, regions: Sequence[str], *, open_regions: Sequence[str], limit: int
) -> list[Waiting]:
    """The first jobs of every region's queue, at most `limit` of each, in one order.

    Each queue keeps its fair order. Virtual times of two queues do not compare, so of the jobs at
    two heads the older one goes first.

    Jobs that cannot run must not hide jobs that can. So a full head may be extended by `limit` jobs
    from further back:
    - by jobs that may leave for one of `open_regions` (regions that may have a worker), if the head
      holds jobs that may not go everywhere;
    - by fresh jobs, if at least half of the head are retries, which a budget may hold back;
    - by jobs that any worker can do, if at least half of the head need a level, which no worker may
      speak yet.

    Nothing is locked: `place` finds out which jobs still wait.
    """
    values = {"profile": profile, "regions": list(regions), "most": limit}
    heads = [_Head(*row) for row in FIRST.rows(tx, values)]
    if len(heads) >= limit:
        counts = Counter(head.next_region for head in heads)
        full = {name for name, count in counts.items() if count >= limit}
        bound = {h.next_region for h in heads if h.policy == "strict" or h.allowed_regions}
        if movable := full & bound:
            movable_values = {"regions": list(movable), "open": list(open_regions)}
            heads += [_Head(*row) for row in MOVABLE.rows(tx, values | movable_values)]
        for others, hides in ((FRESH, attrgetter("begun")), (PLAIN, attrgetter("needs"))):
            hiding = Counter(head.next_region for head in heads if hides(head) > 0)
            if hidden := {name for name in full if 2 * hiding[name] >= limit}:
                rows = others.rows(tx, values | {"regions": list(hidden)})
                heads += [_Head(*row) for row in rows]
    queues: dict[str, list[Waiting]] = {}
    distinct = {head.id: head for head in heads}.values()
    for head in sorted(distinct, key=lambda head: head.place_in_queue):
        request = RoutingRequest(
            head.id, head.home_region, Policy(head.policy), head.allowed_regions
        )
        job = Waiting(request, head.next_region, head.priority, head.begun, head.needs)
        queues.setdefault(head.next_region, []).append(job)
    return list(merge(*queues.values(), key=lambda job: (job.priority, job.job_id)))


WAITING_BY_ID_SQL = WAITING_SQL.replace("'' || state", STATE_BY_ID)
# MATERIALIZED and LATERAL lock one offered job after the other, and stop at :most: jobs beyond it
# stay unlocked for other dispatchers.
PLACE = Fixed(
    text(f"""
    WITH picked AS MATERIALIZED (
        SELECT locked.id, offered.n FROM unnest(:ids) WITH ORDINALITY AS offered(id, n), LATERAL (
            SELECT id FROM jobs WHERE jobs.id = offered.id AND {WAITING_BY_ID_SQL}
            FOR UPDATE SKIP LOCKED
        ) AS locked
        LIMIT :most
    ), numbered AS (
        SELECT id, n AS offer, row_number() OVER (ORDER BY n) AS n FROM picked
    ), placed AS (
        UPDATE jobs SET state = 'starting', fence = fence + 1, region = :target, placed_at = now(),
            not_before = NULL
        FROM numbered WHERE jobs.id = numbered.id AND {NO_WAIT}
        RETURNING jobs.id, fence, offer, n, traceparent
    ), made AS (
        INSERT INTO attempts (job_id, fence, region, token, hops)
        SELECT id, fence, :target, (CAST(:tokens AS text[]))[n], :hops -> CAST(offer - 1 AS int)
        FROM placed
        RETURNING job_id, fence, token
    )
    SELECT job_id, made.fence, token, traceparent FROM made JOIN placed ON placed.id = job_id
    """).bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("hops", type_=JSONB))
)


def place(
    tx: Connection, target: str, offers: Sequence[Offer], tokens: Sequence[str]
) -> list[Placed]:
    """Place the first of these jobs that still wait on `target`, one for each claim token.

    Skips rows that another dispatcher is placing. The caller must know that each job may go to
    `target`. Plan: one look-up in pk_jobs for each offer.
    """
    if not offers or not tokens:
        return []
    rows = PLACE.rows(
        tx,
        {
            "ids": [offer.job_id for offer in offers],
            "hops": [offer.hops for offer in offers],
            "most": len(tokens),
            "target": target,
            "tokens": list(tokens),
        },
    )
    return [Placed(*row) for row in rows]
