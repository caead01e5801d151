"""Jobs: submit, look up, cancel, and the one function that ends them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from app.domain.job import levels
from app.store.fixed import Fixed
from app.store.job.queue import Backlog, backlog_sql
from app.store.job.records import (
    COLUMNS,
    EndedJob,
    JobRecord,
    JobVersion,
    KnownKey,
    OwnJob,
    WholeJob,
    columns,
)
from app.store.models import IdempotencyRow, JobRow
from app.store.webhooks.deliveries import OWED
from stillmotion.states import JobState

jobs = cast(Table, JobRow.__table__)
READ = select(jobs).where(jobs.c.id == bindparam("job_id"))
ATTEMPTS: ColumnElement[Any] = literal_column(
    "(SELECT coalesce(json_agg(a ORDER BY a.fence), '[]') FROM attempts AS a"
    " WHERE a.job_id = jobs.id)"
).label("attempts")
EXPIRED = func.coalesce(jobs.c.expires_at <= func.now(), False).label("expired")
OWN = and_(jobs.c.id == bindparam("job_id"), jobs.c.owner_id == bindparam("owner"))
GET = select(jobs, EXPIRED).where(OWN)
GET_WHOLE = select(jobs, EXPIRED, ATTEMPTS).where(OWN)
READ_WHOLE = READ.add_columns(EXPIRED, ATTEMPTS)
# As strong as the lock of an UPDATE and no stronger, so inserts that refer to the job do not wait.
LOCK = text("SELECT state FROM jobs WHERE id = :job_id AND owner_id = :owner FOR NO KEY UPDATE")
REQUEST_STOP = text("UPDATE jobs SET cancel_requested = true WHERE id = :job_id")
AHEAD = text(
    backlog_sql(
        profile=":profile",
        region=":region",
        only="(priority, vstart, id) < (:priority, :vstart, :id)",
    )
)
AHEAD_LIMIT = 10_000  # a longer queue is reported as this long


@dataclass(frozen=True)
class NewJob:
    """A job as submit writes it. Fields as in JobRow; times are seconds from the insert."""

    id: UUID
    owner_id: UUID
    profile: str
    prompt: str
    seed: int
    frames: int
    fps: int
    size: int
    steps: int
    input_key: str
    home_region: str
    policy: str
    max_queue_s: float
    traceparent: str | None = None
    width: int | None = None
    height: int | None = None
    negative_prompt: str = ""
    motion: float = 1.0
    loop: bool = False
    priority: int = 1
    allowed_regions: list[str] | None = None
    deadline_s: float | None = None
    hold_s: float = 0.0  # held back for so long
    webhook_url: str | None = None
    webhook_events: list[str] | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    vstart: float = 0.0  # app/store/job/fair.py
    cost: float = 1.0
    slot: bool | None = None  # app/store/job/slots.py
    predicted_s: float | None = None  # from submit to the end
    needs: int = 0  # at least: see `level`
    retention_s: int = 2_592_000

    @property
    def level(self) -> int:
        """What a worker must speak to heed its fields: the row's `needs`."""
        return max(self.needs, levels.needed(vars(self)))


# Columns that are not named like the field of NewJob with their value.
_COMPUTED = {
    "state": f"'{JobState.QUEUED}'",
    "next_region": ":home_region",
    "metadata": ":labels",
    # By the database's clock: that of the API's host may be wrong.
    "queue_deadline": "now() + make_interval(secs => :max_queue_s)",
    "deadline": "now() + make_interval(secs => :deadline_s)",
    "not_before": "CASE WHEN :hold_s > 0 THEN now() + make_interval(secs => :hold_s) END",
}
_NAMED = {f.name for f in fields(NewJob)} & set(COLUMNS)
_INSERTED = {name: f":{name}" for name in COLUMNS if name in _NAMED} | _COMPUTED
# Built once: making a statement costs as much as running it.
ADD = Fixed(
    text(
        f"INSERT INTO jobs ({', '.join(_INSERTED)}) VALUES ({', '.join(_INSERTED.values())})"
        f" RETURNING {columns('jobs')}"
    ).bindparams(
        bindparam("labels", type_=JSONB),
        bindparam("allowed_regions", type_=ARRAY(Text)),
        bindparam("webhook_events", type_=ARRAY(Text)),
        *(bindparam(name, type_=Float) for name in ("max_queue_s", "deadline_s", "hold_s")),
    )
)


def add(
    tx: Connection, new: NewJob, idempotency: tuple[str, bytes] | None = None
) -> JobRecord | None:
    """Insert a queued job and, with `idempotency` = (key, fingerprint), its record.

    None: another submit with that key was first, and the caller must roll back. The unique index
    makes the second of two concurrent submits wait for the first one's commit.
    """
    [found] = ADD.rows(tx, vars(new) | {"needs": new.level})
    row = JobRecord(*found)
    if idempotency is None:
        return row
    key, fingerprint = idempotency
    record = upsert(IdempotencyRow).values(
        owner_id=new.owner_id, key=key, fingerprint=fingerprint, job_id=new.id
    )
    written = tx.execute(record.on_conflict_do_nothing().returning(IdempotencyRow.job_id))
    return row if written.one_or_none() is not None else None


def find_by_key(tx: Connection, owner_id: UUID, key: str) -> KnownKey | None:
    """The request and the job that this owner's idempotency key stands for."""
    row = tx.execute(
        select(IdempotencyRow.fingerprint, IdempotencyRow.job_id).where(
            IdempotencyRow.owner_id == owner_id, IdempotencyRow.key == key
        )
    ).one_or_none()
    return None if row is None else KnownKey(*row)


def get(tx: Connection, job_id: UUID, *, owner_id: UUID) -> OwnJob | None:
    """One of the owner's jobs. None for an unknown job, and for another owner's."""
    row = tx.execute(GET, {"job_id": job_id, "owner": owner_id}).one_or_none()
    return None if row is None else OwnJob(*row)


def read(tx: Connection, job_id: UUID) -> JobRecord | None:
    """Any owner's job, for the service's own parts."""
    row = tx.execute(READ, {"job_id": job_id}).one_or_none()
    return None if row is None else JobRecord(*row)


def get_whole(tx: Connection, job_id: UUID, *, owner_id: UUID) -> WholeJob | None:
    """Like `get`, with every placement; one statement, because clients poll it.

    Plan: pk_jobs, then pk_attempts.
    """
    row = tx.execute(GET_WHOLE, {"job_id": job_id, "owner": owner_id}).one_or_none()
    return None if row is None else WholeJob(*row)


def read_whole(tx: Connection, job_id: UUID) -> WholeJob | None:
    """Like `get_whole`, for any owner's job: for operators, whose access is audited."""
    row = tx.execute(READ_WHOLE, {"job_id": job_id}).one_or_none()
    return None if row is None else WholeJob(*row)


def ahead(tx: Connection, job: JobRecord) -> Backlog:
    """The jobs that wait for a worker and are taken before this one, at most AHEAD_LIMIT.

    Plan: a walk along ix_jobs_waiting from the head of the queue to this job.
    """
    count, cost = tx.execute(
        AHEAD,
        {
            "profile": job.profile,
            "region": job.next_region,
            "priority": job.priority,
            "vstart": job.vstart,
            "id": job.id,
            "most": AHEAD_LIMIT,
        },
    ).one()
    return Backlog(count, float(cost))


def poll_versions(tx: Connection, job_ids: Collection[UUID]) -> Sequence[JobVersion]:
    """What may have changed in these jobs; one look-up in pk_jobs each."""
    found = text(
        "SELECT id, state, fence, step, region, next_region FROM jobs WHERE id = ANY(:ids)"
    ).bindparams(bindparam("ids", type_=ARRAY(Uuid)))
    return [JobVersion(*row) for row in tx.execute(found, {"ids": list(job_ids)})]


@cache
def _ending(where: str) -> Fixed:
    statement = text(
        f"""
        WITH ended AS (
            UPDATE jobs SET
                state = :end_state, finished_at = now(),
                expires_at = now() + make_interval(secs => retention_s),
                lease_until = NULL, attempt_until = NULL, not_before = NULL,
                output_key = :output_key, output_bytes = :output_bytes,
                error_code = CASE
                    WHEN :end_state IN ('canceled', 'expired') AND deadline <= now()
                    THEN 'deadline_exceeded' ELSE :error_code END,
                error_detail = CASE
                    WHEN :end_state IN ('canceled', 'expired') AND deadline <= now()
                    THEN 'The deadline passed.' ELSE :error_detail END,
                fence = fence + :bump
            WHERE {where}
            RETURNING id, owner_id, region, fence, webhook_url, webhook_events, slot, traceparent
        ), closed AS (
            UPDATE attempts SET
                ended_at = now(), outcome = :outcome, error_code = :error_code, timings = :timings
            FROM ended
            WHERE job_id = ended.id AND attempts.fence = ended.fence - :bump AND ended_at IS NULL
        ), owed AS ({OWED})
        SELECT id, region, fence, owner_id, slot, traceparent FROM ended
        """
    ).bindparams(bindparam("timings", type_=JSONB(none_as_null=True)))
    return Fixed(statement)


def end(
    tx: Connection,
    state: JobState,
    where: str,
    values: Mapping[str, Any],
    *,
    outcome: str,
    error_code: str | None = None,
    error_detail: str | None = None,
    output: tuple[str, int] | None = None,
    timings: Mapping[str, float] | None = None,
    new_fence: bool = False,
) -> Sequence[EndedJob]:
    """Move every job that `where` matches to a terminal state. No other code does.

    The same statement closes the current attempt with `outcome` and writes the webhook deliveries,
    so no job can end without its webhooks.

    `where`: a fixed condition on `jobs` from our own code, with its `values`. `output`: (object
    key, bytes). `timings`: stage of the attempt -> seconds. `new_fence`: make the messages under
    way stale. A job that is canceled or expires after its deadline gets `deadline_exceeded`,
    whatever `error_code` says.
    """
    if not state.terminal:
        raise ValueError(f"{state} is not terminal")
    output_key, output_bytes = output or (None, None)
    rows = _ending(where).rows(
        tx,
        {
            "end_state": state.value,
            "output_key": output_key,
            "output_bytes": output_bytes,
            "error_code": error_code,
            "error_detail": error_detail,
            "outcome": outcome,
            "timings": None if timings is None else dict(timings),
            "event": f"job.{state.value}",
            "bump": int(new_fence),
            **values,
        },
    )
    return [EndedJob(*row) for row in rows]


def cancel(tx: Connection, job_id: UUID, *, owner_id: UUID) -> JobRecord | None:
    """Cancel a queued or starting job at once; ask the worker of a processing one to stop.

    Needs a transaction, and locks the job's row until its end.

    Returns the row as it is now, or None for an unknown job. A terminal state other than
    `canceled` means that the job ended first.
    """
    this = {"job_id": job_id, "owner": owner_id}
    # Without the lock an attempt could fail or lose its lease between two statements: the job would
    # be queued again and the request lost.
    locked = tx.execute(LOCK, this).one_or_none()
    if locked is None:
        return None
    if locked.state in (JobState.QUEUED, JobState.STARTING):
        end(
            tx,
            JobState.CANCELED,
            "id = :job_id AND owner_id = :owner",
            this,
            outcome="canceled",
            error_code="canceled",
            error_detail="The job was canceled.",
            new_fence=True,
        )
    elif locked.state == JobState.PROCESSING:
        tx.execute(REQUEST_STOP, this)
    return get(tx, job_id, owner_id=owner_id)
