"""Lists of one owner's jobs, by age."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Uuid,
    and_,
    any_,
    bindparam,
    func,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.domain.job.state import first_id
from app.store.job import labels
from app.store.job.jobs import jobs
from app.store.job.labels import HIGHEST, LOWEST, Between
from app.store.job.records import JobRecord

KEPT = and_(
    jobs.c.purged_at.is_(None), or_(jobs.c.expires_at.is_(None), jobs.c.expires_at > func.now())
)
FEW = 1000  # jobs that may be read one by one
# An id is drawn before the picture is decoded, so it is older than its row, by far less than this.
ID_SLACK = timedelta(hours=1)


@dataclass(frozen=True)
class Filter:
    """Which of an owner's jobs to list."""

    cursor: UUID | None = None  # the last job of the previous page
    state: str | None = None
    created_from: datetime | None = None  # included
    created_before: datetime | None = None  # not included
    labels: Mapping[str, str] = field(default_factory=dict)  # all of these


def page(
    tx: Connection, owner_id: UUID, *, limit: int, only: Filter, newest_first: bool = True
) -> Sequence[JobRecord]:
    """At most `limit` of the owner's jobs by age, without expired ones.

    Plan: ix_jobs_kept, or with a state ix_jobs_owner_state; with labels that fewer jobs have than
    the state, pk_job_labels. None of them holds tombstones.
    """
    query = select(jobs).where(KEPT)
    if only.created_from is not None:
        query = query.where(jobs.c.created_at >= only.created_from)
    if only.created_before is not None:
        query = query.where(jobs.c.created_at < only.created_before)
    between = _bounds(only, newest_first)
    if only.labels:
        query = query.where(jobs.c.metadata.contains(dict(only.labels)))
        if only.state is None or not _few(tx, owner_id, only.state):
            label = labels.rarest(tx, owner_id, only.labels)
            query = query.where(jobs.c.owner_id == owner_id)
            if only.state is not None:
                query = query.where(jobs.c.state == only.state)
            return _page_by_label(tx, owner_id, query, label, between, limit, newest_first)
    # All columns of the index, compared as rows and named in the order: for `owner_id = ...` and
    # the order of ids, the planner may walk the primary key through everybody's jobs.
    columns: list[ColumnElement[Any]] = [jobs.c.owner_id, jobs.c.id]
    first: list[object] = [owner_id]
    if only.state is not None:
        columns.insert(1, jobs.c.state)
        first.append(only.state)
    query = query.where(
        tuple_(*columns) > tuple_(*first, between.above, types=[c.type for c in columns]),
        tuple_(*columns) < tuple_(*first, between.below, types=[c.type for c in columns]),
    )
    query = query.order_by(*(c.desc() if newest_first else c for c in columns)).limit(limit)
    return [JobRecord(*row) for row in tx.execute(query)]


def _bounds(only: Filter, newest_first: bool) -> Between:
    """The ids of the page. Ids begin with their time, so a bound on them shortens a walk."""
    above, below = [LOWEST], [HIGHEST]
    if only.cursor is not None:
        (below if newest_first else above).append(only.cursor)
    if only.created_from is not None:
        above.append(UUID(int=first_id(only.created_from - ID_SLACK).int - 1))
    if only.created_before is not None:
        below.append(first_id(only.created_before + ID_SLACK))
    return Between(max(above), min(below))


_COUNT_FEW = text(
    """
    SELECT count(*) FROM (
        SELECT FROM jobs
        WHERE (owner_id, state, id) > (:owner, :state, :lowest)
          AND (owner_id, state, id) < (:owner, :state, :highest) AND purged_at IS NULL
        ORDER BY owner_id, state, id LIMIT :most) AS counted
    """
)


def _few(tx: Connection, owner_id: UUID, state: str) -> bool:
    """Whether an owner has few jobs in a state."""
    values = {"owner": owner_id, "state": state, "most": FEW, "lowest": LOWEST, "highest": HIGHEST}
    return int(tx.execute(_COUNT_FEW, values).scalar_one()) < FEW


def _page_by_label(
    tx: Connection,
    owner_id: UUID,
    query: Select[Any],
    label: bytes,
    between: Between,
    limit: int,
    newest_first: bool,
) -> Sequence[JobRecord]:
    """The page from the jobs that have one of the labels: batch by batch, until it is full.

    A batch is looked up as a whole: given a LIMIT, the planner may walk all of the owner's jobs.
    """
    found: list[JobRecord] = []
    size = 2 * limit
    while len(found) < limit:
        ids = labels.walk(
            tx, owner_id, label, between=between, limit=size, newest_first=newest_first
        )
        if ids:
            these = query.where(jobs.c.id == any_(bindparam("ids", ids, ARRAY(Uuid))))
            batch = [JobRecord(*row) for row in tx.execute(these)]
            found += sorted(batch, key=lambda job: job.id, reverse=newest_first)
        if len(ids) < size:
            break
        between = between.beyond(ids[-1], newest_first)
        size = min(2 * size, FEW)
    return found[:limit]
