"""The tables, with the constraints that make impossible states impossible.

The trigger that forbids leaving a terminal state, and every other illegal move, is in the first
migration: SQLAlchemy has no word for it.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    desc,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.domain.job.state import MAX_BEGUN
from stillmotion.states import TERMINAL, JobState

TERMINAL_SQL = ", ".join(f"'{state}'" for state in sorted(TERMINAL))
STATES_SQL = ", ".join(f"'{state}'" for state in JobState)
# What may be placed now.
WAITING_SQL = "state = 'queued' AND not_before IS NULL AND slot IS NOT FALSE"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own form)
        datetime: DateTime(timezone=True),
        str: Text,
        bytes: LargeBinary,
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
        list[str]: ARRAY(Text),
    }


class ApiKeyRow(Base):
    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    # SHA-256 of the key. The key is 256 random bits, so a slow hash would protect nothing more.
    digest: Mapped[bytes] = mapped_column(unique=True)
    prefix: Mapped[str]  # the first characters, so that people can tell their keys apart
    scopes: Mapped[list[str]]
    # Limits of this key; NULL: the deployment's own.
    max_concurrency: Mapped[int | None]
    submits_per_minute: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    revoked_at: Mapped[datetime | None]
    # Of the secret that signs webhooks to addresses which its jobs name; see WebhookEndpointRow.
    webhook_secret_version: Mapped[int] = mapped_column(server_default=text("1"))
    webhook_previous_until: Mapped[datetime | None]


class JobRow(Base):
    __tablename__ = "jobs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    state: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    # What was asked for.
    profile: Mapped[str]
    prompt: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    frames: Mapped[int]
    fps: Mapped[int]
    size: Mapped[int]  # longest side, pixels
    motion: Mapped[float] = mapped_column(server_default=text("1"))  # multiplies all motion
    loop: Mapped[bool] = mapped_column(server_default=text("false"))
    steps: Mapped[int]
    input_key: Mapped[str]  # the normalised picture in object storage
    webhook_url: Mapped[str | None]
    webhook_events: Mapped[list[str] | None]  # announced there; None: all
    # `metadata` is taken by SQLAlchemy's declarative base.
    labels: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'::jsonb"))

    # Where and when it may run.
    home_region: Mapped[str]
    policy: Mapped[str]
    allowed_regions: Mapped[list[str] | None]  # data residency; never crossed
    # The region placement tries first: home, or another one after an attempt failed at home.
    next_region: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))  # 0 first
    queue_deadline: Mapped[datetime]  # passed while waiting: expired
    deadline: Mapped[datetime | None]  # passed while waiting: expired; processing: canceled
    # Set: a backoff runs until then, and the row is not in the placement index. Cleared by the
    # dispatcher, so that placing never reads rows it may not take.
    not_before: Mapped[datetime | None]
    # Virtual start, stamped at submit: the order within a priority class (app/store/job/fair.py).
    vstart: Mapped[float] = mapped_column(server_default=text("0"))
    cost: Mapped[float] = mapped_column(server_default=text("1"))  # app/domain/job/cost.py
    # Of a key with a concurrency limit: true, it holds one of the key's slots; false, it waits for
    # one and is in no placement index. NULL: the key has no limit.
    slot: Mapped[bool | None]
    predicted_s: Mapped[float | None]  # from submit to the end, as foretold at submit

    # The current attempt.
    fence: Mapped[int] = mapped_column(server_default=text("0"))  # grows with every placement
    begun: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    region: Mapped[str | None]  # of the current or last placement
    placed_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]  # of the last attempt that began
    lease_until: Mapped[datetime | None]
    attempt_until: Mapped[datetime | None]
    # Drawn at random by the worker that began the attempt. The fence may be handed out again after
    # a crash that took back its placement; this never is.
    lease_token: Mapped[str | None]
    step: Mapped[int] = mapped_column(server_default=text("0"))
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))

    # How it ended.
    finished_at: Mapped[datetime | None]
    output_key: Mapped[str | None]
    output_bytes: Mapped[int | None]
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]

    # How long the picture and the clip are kept after that.
    retention_s: Mapped[int] = mapped_column(server_default=text("2592000"))
    expires_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]  # a tombstone: picture, clip and texts are gone

    __table_args__ = (
        CheckConstraint(f"state IN ({STATES_SQL})", name="state_known"),
        CheckConstraint(
            "(state = 'processing') = (lease_until IS NOT NULL)", name="processing_iff_leased"
        ),
        CheckConstraint(
            "(lease_until IS NULL) = (attempt_until IS NULL)", name="lease_has_attempt_limit"
        ),
        CheckConstraint(
            f"(state IN ({TERMINAL_SQL})) = (finished_at IS NOT NULL)", name="terminal_iff_finished"
        ),
        CheckConstraint("(state = 'succeeded') = (output_key IS NOT NULL)", name="output"),
        CheckConstraint("state <> 'failed' OR error_code IS NOT NULL", name="failure_has_code"),
        CheckConstraint("not_before IS NULL OR state = 'queued'", name="only_queued_backs_off"),
        CheckConstraint(
            "state NOT IN ('starting', 'processing', 'succeeded') OR fence > 0", name="placed"
        ),
        CheckConstraint(f"begun BETWEEN 0 AND {MAX_BEGUN} AND begun <= fence", name="begun"),
        CheckConstraint("state NOT IN ('processing', 'succeeded') OR begun > 0", name="was_begun"),
        CheckConstraint("priority BETWEEN 0 AND 2", name="priority"),
        CheckConstraint("cost > 0", name="cost"),
        CheckConstraint(
            f"purged_at IS NULL OR state IN ({TERMINAL_SQL})", name="only_ended_is_purged"
        ),
        # Placing: equality on the first two columns, then the order in which jobs are taken.
        Index(
            "ix_jobs_fair",
            "profile",
            "next_region",
            "priority",
            "vstart",
            "id",
            postgresql_where=text(WAITING_SQL),
        ),
        # Overflow and counting are the same walk, over jobs that may leave their region.
        Index(
            "ix_jobs_fair_movable",
            "profile",
            "next_region",
            "priority",
            "vstart",
            "id",
            postgresql_where=text(f"{WAITING_SQL} AND policy <> 'strict'"),
        ),
        Index(
            "ix_jobs_not_before",
            "not_before",
            postgresql_where=text("state = 'queued' AND not_before IS NOT NULL"),
        ),
        # Reaping.
        Index("ix_jobs_placed_at", "placed_at", postgresql_where=text("state = 'starting'")),
        Index("ix_jobs_lease_until", "lease_until", postgresql_where=text("state = 'processing'")),
        Index(
            "ix_jobs_attempt_until", "attempt_until", postgresql_where=text("state = 'processing'")
        ),
        Index(
            "ix_jobs_queue_deadline",
            "queue_deadline",
            postgresql_where=text("state IN ('queued', 'starting')"),
        ),
        Index(
            "ix_jobs_deadline",
            "deadline",
            postgresql_where=text(f"deadline IS NOT NULL AND state NOT IN ({TERMINAL_SQL})"),
        ),
        # Slots of keys with a concurrency limit: who holds one, and who is next.
        Index(
            "ix_jobs_slot",
            "owner_id",
            "slot",
            "priority",
            "vstart",
            "id",
            postgresql_where=text(f"slot IS NOT NULL AND state NOT IN ({TERMINAL_SQL})"),
        ),
        # Service times of late, for predictions.
        Index(
            "ix_jobs_succeeded",
            "profile",
            "finished_at",
            postgresql_where=text("state = 'succeeded'"),
        ),
        Index("ix_jobs_expires_at", "expires_at", postgresql_where=text("purged_at IS NULL")),
        # The operations page: what ended of late, and what failed.
        Index(
            "ix_jobs_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")
        ),
        Index(
            "ix_jobs_failed", "finished_at", postgresql_where=text("state IN ('expired', 'failed')")
        ),
        # Listing one owner's jobs, newest first: ids grow with time.
        Index("ix_jobs_owner", "owner_id", desc("id")),
    )


class AttemptRow(Base):
    """One placement of a job. Written at placement, closed when its fence stops being current."""

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="closed"),
        CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'lost', 'not_begun', 'canceled')",
            name="outcome_known",
        ),
    )

    job_id: Mapped[UUID] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    fence: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str]
    token: Mapped[str]  # of the claim
    hops: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    placed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    begun_at: Mapped[datetime | None]
    worker: Mapped[str | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error_code: Mapped[str | None]
    timings: Mapped[dict[str, Any] | None]  # stage -> seconds, as the worker measured them


class FairTagRow(Base):
    """Where an owner's next job stands in virtual time, for one queue: job/fair.py."""

    __tablename__ = "fair_tags"
    __table_args__ = (Index("ix_fair_tags_queue", "profile", "region", "priority", "finish"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    profile: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    finish: Mapped[float]  # virtual finish of the owner's last job


class IdempotencyRow(Base):
    """The promise that one key of one owner means one job."""

    __tablename__ = "idempotency_records"
    __table_args__ = (Index("ix_idempotency_records_created_at", "created_at"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]  # SHA-256 of the request
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class WebhookEndpointRow(Base):
    """An address that hears of every job of its owner."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_with_reason"
        ),
        UniqueConstraint("owner_id", "url"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    url: Mapped[str]
    events: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]  # "gone", "failing" or "owner"
    # Secrets are derived, so a rotation is a number; until then the one before signs as well.
    webhook_secret_version: Mapped[int] = mapped_column(server_default=text("1"))
    webhook_previous_until: Mapped[datetime | None]


# Who is asked: host and port, of an address that was vetted. Spelled as in its index.
RECEIVER_SQL = "lower(substring(url, '://([^/?#]*)'))"
OPEN_SQL = "delivered_at IS NULL AND given_up_at IS NULL"


class DeliveryRow(Base):
    """One webhook that is owed, written in the transaction that ended its job.

    Or a test of an endpoint, which belongs to no job.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("delivered_at IS NULL OR given_up_at IS NULL", name="one_end"),
        Index(
            "ix_webhook_deliveries_due",
            "next_at",
            postgresql_where=text(OPEN_SQL),
        ),
        Index("ix_webhook_deliveries_job_id", "job_id"),
        # What is due for one receiver; and, skipping from one to the next, which there are.
        Index(
            "ix_webhook_deliveries_receiver",
            text(RECEIVER_SQL),
            "next_at",
            postgresql_where=text(OPEN_SQL),
        ),
        # How much of each receiver's is under way.
        Index(
            "ix_webhook_deliveries_leased",
            "leased_until",
            postgresql_where=text(f"leased_until IS NOT NULL AND {OPEN_SQL}"),
        ),
        # Listing one owner's deliveries, newest first.
        Index("ix_webhook_deliveries_owner", "owner_id", desc("created_at"), desc("id")),
        Index(
            "ix_webhook_deliveries_endpoint_id",
            "endpoint_id",
            postgresql_where=text("endpoint_id IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    # None: to the address that the job names.
    endpoint_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE")
    )
    event: Mapped[str]  # "job.succeeded", ...
    url: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    # Those made before the last redelivery: `tries` is a fence and never falls.
    tries_before: Mapped[int] = mapped_column(server_default=text("0"))
    # Due at; while a worker holds the delivery it is the end of that lease, so one column is both
    # the schedule and the lock.
    next_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # The same end while it is a lease; only to count what is under way.
    leased_until: Mapped[datetime | None]
    last_tried_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    given_up_at: Mapped[datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]


class RoutingTableRow(Base):
    """One version of the routing table. The last one is in force; the others are its history."""

    __tablename__ = "routing_tables"

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    made_by: Mapped[str]  # the controller
    body: Mapped[str]  # app.domain.routing.table.Table as JSON


class ControlRow(Base):
    """One decision of an operator that is in force; without a row, nothing was decided."""

    __tablename__ = "controls"
    __table_args__ = (
        CheckConstraint(
            "setting IN ('drained', 'cap', 'drained_worker', 'pinned')", name="setting_known"
        ),
        CheckConstraint(
            "(setting = 'cap') = (value IS NOT NULL) AND value >= 0", name="cap_has_value"
        ),
    )

    setting: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)  # region, worker, or "table"
    value: Mapped[int | None] = mapped_column(BigInteger)


class AuditRow(Base):
    """One verb of an operator: who, what, when, the value before and after."""

    __tablename__ = "audit_entries"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    key_name: Mapped[str]
    verb: Mapped[str]
    subject: Mapped[str]
    old: Mapped[Any | None] = mapped_column(JSONB)
    new: Mapped[Any | None] = mapped_column(JSONB)
