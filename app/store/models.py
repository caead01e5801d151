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
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    desc,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.domain.job import MAX_BEGUN, TERMINAL, JobState

TERMINAL_SQL = ", ".join(f"'{state}'" for state in sorted(TERMINAL))
STATES_SQL = ", ".join(f"'{state}'" for state in JobState)


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
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    revoked_at: Mapped[datetime | None]


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

    # The current attempt.
    fence: Mapped[int] = mapped_column(server_default=text("0"))  # grows with every placement
    begun: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    region: Mapped[str | None]  # of the current or last placement
    placed_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]  # of the last attempt that began
    lease_until: Mapped[datetime | None]
    attempt_until: Mapped[datetime | None]
    step: Mapped[int] = mapped_column(server_default=text("0"))
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))

    # How it ended.
    finished_at: Mapped[datetime | None]
    output_key: Mapped[str | None]
    output_bytes: Mapped[int | None]
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]

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
        # Placing: equality on the first two columns, then the order in which jobs are taken.
        Index(
            "ix_jobs_waiting",
            "profile",
            "next_region",
            "priority",
            "id",
            postgresql_where=text("state = 'queued' AND not_before IS NULL"),
        ),
        # Overflow and counting are the same walk, over jobs that may leave their region.
        Index(
            "ix_jobs_waiting_movable",
            "profile",
            "next_region",
            "priority",
            "id",
            postgresql_where=text("state = 'queued' AND not_before IS NULL AND policy <> 'strict'"),
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


class IdempotencyRow(Base):
    """The promise that one key of one owner means one job."""

    __tablename__ = "idempotency_records"
    __table_args__ = (Index("ix_idempotency_records_created_at", "created_at"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]  # SHA-256 of the request
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class DeliveryRow(Base):
    """One webhook that is owed, written in the transaction that ended its job."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("delivered_at IS NULL OR given_up_at IS NULL", name="one_end"),
        Index(
            "ix_webhook_deliveries_due",
            "next_at",
            postgresql_where=text("delivered_at IS NULL AND given_up_at IS NULL"),
        ),
        Index("ix_webhook_deliveries_job_id", "job_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    event: Mapped[str]  # "job.succeeded", ...
    url: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    # Due at; while a worker holds the delivery it is the end of that lease, so one column is both
    # the schedule and the lock.
    next_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    delivered_at: Mapped[datetime | None]
    given_up_at: Mapped[datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
