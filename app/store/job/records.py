"""Records of jobs: one for each table, and one for each statement that returns more or less.

Fields have the names and the order of the columns, so a row fills a record by position. `COLUMNS`
and `columns()` put that order into statements, and a test compares it with the tables.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Protocol, TypedDict
from uuid import UUID

from app.store.record import record


@record
class JobRecord:
    """One row of `jobs`. app/store/models.py explains each field, at JobRow."""

    id: UUID
    owner_id: UUID
    state: str
    created_at: datetime
    traceparent: str | None

    profile: str
    prompt: str
    negative_prompt: str
    seed: int
    frames: int
    fps: int
    size: int
    width: int | None
    height: int | None
    motion: float
    loop: bool
    steps: int
    input_key: str
    webhook_url: str | None
    webhook_events: list[str] | None
    metadata: dict[str, Any]  # the client's own JSON object

    home_region: str
    policy: str
    allowed_regions: list[str] | None
    next_region: str
    priority: int
    queue_deadline: datetime
    deadline: datetime | None
    not_before: datetime | None
    vstart: float
    cost: float
    slot: bool | None
    predicted_s: float | None
    needs: int

    fence: int
    begun: int
    region: str | None
    placed_at: datetime | None
    started_at: datetime | None
    lease_until: datetime | None
    attempt_until: datetime | None
    lease_token: str | None
    step: int
    cancel_requested: bool

    finished_at: datetime | None
    output_key: str | None
    output_bytes: int | None
    error_code: str | None
    error_detail: str | None

    retention_s: int
    expires_at: datetime | None
    purged_at: datetime | None


COLUMNS = tuple(field.name for field in fields(JobRecord))


def columns(table: str) -> str:
    """The columns of a JobRecord as SQL, in order. `table`: a name or an alias of `jobs`."""
    return ", ".join(f"{table}.{name}" for name in COLUMNS)


class Hop(TypedDict, total=False):
    """One place an attempt was offered to, as stored in `attempts.hops`."""

    region: str
    outcome: str  # "refused", "placed", or how the attempt ended
    reason: str
    at: str  # ISO 8601


class AttemptJson(TypedDict):
    """One row of `attempts` as Postgres writes it in JSON; times are ISO 8601 texts."""

    job_id: str
    fence: int
    region: str
    token: str
    hops: list[Hop]
    placed_at: str
    begun_at: str | None
    worker: str | None
    ended_at: str | None
    outcome: str | None
    error_code: str | None
    timings: dict[str, float] | None
    model_version: str | None
    release: str | None


@record
class OwnJob(JobRecord):
    """A job as its owner looks it up."""

    expired: bool  # its retention has ended, by the database's clock


@record
class WholeJob(OwnJob):
    """A job with all its placements, oldest first."""

    attempts: list[AttemptJson]


@record
class BegunJob(JobRecord):
    """A job that a worker has just begun."""

    started_at: datetime
    lease_token: str

    token: str  # of the claim that placed it
    deadline_in_s: float | None  # seconds until the client's deadline, when it began
    has_webhooks: bool  # whether its owner has webhook endpoints


class AttemptRef(Protocol):
    """How an attempt is named: its job, the region it runs in, and its fence."""

    @property
    def id(self) -> UUID: ...
    @property
    def region(self) -> str | None: ...
    @property
    def fence(self) -> int: ...
    @property
    def traceparent(self) -> str | None: ...


@record
class EndedJob:
    """A job that has just ended."""

    id: UUID
    region: str | None  # None: never placed
    fence: int
    owner_id: UUID
    slot: bool | None
    traceparent: str | None


@record
class RequeuedJob:
    """A job that has just gone back to the queue, and the attempt that it lost."""

    id: UUID
    profile: str
    needs: int
    region: str
    fence: int
    token: str
    traceparent: str | None


@record
class LostJob:
    """A job that is taken back from its worker."""

    id: UUID
    begun: int
    cancel_requested: bool


@record
class OverdueAttempt:
    """An attempt whose worker has not renewed its lease in time."""

    id: UUID
    fence: int
    lease_token: str | None  # None: begun by an earlier release
    region: str
    profile: str
    worker: str


@record
class JobVersion:
    """The fields of a job that change while a client waits for it."""

    id: UUID
    state: str
    fence: int
    step: int
    region: str | None
    next_region: str


@record
class KnownKey:
    """The request and the job that an idempotency key stands for."""

    fingerprint: bytes  # SHA-256 of the request
    job_id: UUID


@record
class PurgedJob:
    """A job that has just become a tombstone, with the keys of its objects."""

    id: UUID
    input_key: str
    output_key: str | None

    @property
    def keys(self) -> Sequence[str]:
        """The keys of the objects to remove."""
        return [key for key in (self.input_key, self.output_key) if key is not None]
