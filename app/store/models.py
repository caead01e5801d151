"""The tables of keys and jobs, with the constraints that make impossible states impossible.

A trigger in the migrations forbids leaving a terminal state and every other illegal move:
SQLAlchemy cannot declare triggers.
"""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.job.state import MAX_BEGUN
from app.store.base import Base
from stillmotion.states import TERMINAL, JobState

TERMINAL_SQL = ", ".join(f"'{state}'" for state in sorted(TERMINAL))
STATES_SQL = ", ".join(f"'{state}'" for state in JobState)
# The `not_before` of a job that needs a level (app/domain/job/levels.py) and waits for a worker. A
# trigger sets it. Dispatchers of release 0.1.0, which ask no worker for its level, take the job for
# one in a backoff and leave it alone.
NEVER = datetime(9000, 1, 1, tzinfo=UTC)
NEVER_SQL = f"TIMESTAMPTZ '{NEVER:%F} 00:00:00+00'"
# A job that may be placed now: no backoff runs, and it is not waiting for a slot. The predicate of
# ix_jobs_waiting, so a statement that walks that index must contain this text. No other index of
# live jobs has `'' || state`, so the planner cannot take one of those for empty and sort all of it.
WAITING_SQL = (
    f"'' || state = 'queued' AND (not_before IS NULL OR not_before = {NEVER_SQL})"
    " AND slot IS NOT FALSE"
)
# `state` in a form that no index has. A statement that finds jobs by their ids compares this:
# otherwise the planner may take a partial index on live jobs for empty, because it was when
# statistics were last gathered, and walk all of it for every job. Decision 70.
STATE_BY_ID = "state || ''"
# A live job of a key with a concurrency limit: it holds a slot or waits for one.
LIMITED_SQL = f"slot IS NOT NULL AND state NOT IN ({TERMINAL_SQL})"
# A job that a release without retention has ended.
UNDATED_SQL = "finished_at IS NOT NULL AND expires_at IS NULL AND purged_at IS NULL"


class ApiKeyRow(Base):
    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint("best_priority BETWEEN 0 AND 2", name="best_priority"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    # SHA-256 of the key. The key is 256 random bits, so a slow hash would protect nothing more.
    digest: Mapped[bytes] = mapped_column(unique=True)
    prefix: Mapped[str]  # the first characters, for people to tell their keys apart
    scopes: Mapped[list[str]]
    # Limits of this key. NULL: the deployment's default. 0: unlimited.
    max_concurrency: Mapped[int | None]
    submits_per_minute: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    revoked_at: Mapped[datetime | None]
    # Of the secret for webhooks to addresses that jobs of this key name; see WebhookEndpointRow.
    webhook_secret_version: Mapped[int] = mapped_column(server_default=text("1"))
    webhook_previous_until: Mapped[datetime | None]
    # Limits again: megabytes of uploads per day, and webhook tries under way at a time.
    upload_mb_per_day: Mapped[int | None]
    webhooks_in_flight: Mapped[int | None]
    # The best class of the queue that its jobs may ask for: 0 is taken first, 2 last.
    best_priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))


class JobRow(Base):
    """One job. Each field says what it means, who writes it and when it is NULL."""

    __tablename__ = "jobs"

    # Identity.
    # A UUIDv7, drawn by the API before the picture is decoded. Ids grow with time, so listings and
    # counts of the last seconds are walks at one end of an index.
    id: Mapped[UUID] = mapped_column(primary_key=True)
    # The API key that submitted the job. Every look-up for a client names it.
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    # stillmotion/states.py explains each state and who moves a job there. A trigger refuses moves
    # that app/domain/job/state.py does not have.
    state: Mapped[str]
    # When the row was written, by the database's clock: slightly after the time in the id.
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # W3C trace context of the submit, under which every process hangs its spans (app/tracing.py).
    # NULL: a job from before migration 0015.
    traceparent: Mapped[str | None]

    # What was asked for. Written at submit with every default filled in, and never changed.
    # The model profile. Only workers of this profile take the job.
    profile: Mapped[str]
    # May be empty. A purge empties it.
    prompt: Mapped[str]
    # What the clip should not show. May be empty; a purge empties it.
    negative_prompt: Mapped[str] = mapped_column(server_default=text("''"))
    # The client's, or drawn at submit, so that every attempt renders the same frames.
    seed: Mapped[int] = mapped_column(BigInteger)
    frames: Mapped[int]
    fps: Mapped[int]
    # The clip's longest side in pixels, at most; the other side follows from the picture.
    size: Mapped[int]
    # The clip's sides in pixels. NULL: a job from before migration 0010, or a model whose
    # clips have a size of their own.
    width: Mapped[int | None]
    height: Mapped[int | None]
    # Multiplies all motion.
    motion: Mapped[float] = mapped_column(server_default=text("1"))
    # Whether the last frame leads back to the first.
    loop: Mapped[bool] = mapped_column(server_default=text("false"))
    # Steps of the denoiser: the profile's, or the deployment's own.
    steps: Mapped[int]
    # Key of the normalised picture in object storage. It is stored before the row is written. The
    # key stays after a purge; the object does not.
    input_key: Mapped[str]
    # Where this job's end is announced, in addition to its owner's endpoints. NULL: nowhere, or
    # the job was purged.
    webhook_url: Mapped[str | None]
    # The events announced to webhook_url. NULL: all of them.
    webhook_events: Mapped[list[str] | None]
    # The client's own JSON object. SQLAlchemy's declarative base takes the name `metadata`. A
    # purge empties it.
    labels: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'::jsonb"))

    # Where and when it may run.
    # The region it was submitted for. The reaper replaces it only when the region is gone.
    home_region: Mapped[str]
    # How far from home it may go: `strict`, `ring` or `any` (stillmotion/states.py).
    policy: Mapped[str]
    # Data residency: the only regions that may ever render it, home included. NULL: any region
    # that the policy allows.
    allowed_regions: Mapped[list[str] | None]
    # The region whose queue it waits in and that placement tries first. Home at submit; a failed
    # attempt may name another region, and every other requeue sends it home.
    next_region: Mapped[str]
    # Class of the queue: 0 is taken first, 2 last. Chosen by the client, within its key's best.
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    # The reaper expires the job if it has not begun by then. Requeueing an attempt moves this on by
    # the time it ran and its backoff, unless the attempt was excused.
    queue_deadline: Mapped[datetime]
    # The client's deadline for the whole job. Before the job begins, the reaper expires it; later,
    # the reaper or the worker cancels it. No clip is committed after it. NULL: no deadline.
    deadline: Mapped[datetime | None]
    # A backoff runs until then, and the row is in no placement index. Set at submit by pacing and
    # by requeues with a delay. NULL: no backoff. The reaper clears it, so that placing never reads
    # rows it may not take. NEVER: it waits, and needs a level.
    not_before: Mapped[datetime | None]
    # Virtual start: the order within a priority class (app/store/job/fair.py). Stamped at submit,
    # and again when the job joins another queue or gets a slot.
    vstart: Mapped[float] = mapped_column(server_default=text("0"))
    # Work in units of one default clip (app/domain/job/cost.py). Fair shares and usage count in it.
    cost: Mapped[float] = mapped_column(server_default=text("1"))
    # For keys with a concurrency limit (app/store/job/slots.py). True: holds one of the key's slots
    # until it ends. False: waits for one and is in no placement index. NULL: the key had no limit.
    slot: Mapped[bool | None]
    # Seconds from submit to the end, as predicted at submit. NULL: no prediction was possible.
    predicted_s: Mapped[float | None]
    # The level that a worker must speak to heed the job's fields (app/domain/job/levels.py).
    # Written at submit.
    needs: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))

    # The current attempt.
    # Number of placements so far. It names the attempt: messages and workers that know a lower
    # number are stale. A cancel or an expiry before the begin raises it too.
    fence: Mapped[int] = mapped_column(server_default=text("0"))
    # Attempts that a worker really began, at most MAX_BEGUN. Excused attempts are taken off again.
    begun: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    # Of the current or the last placement. NULL: never placed.
    region: Mapped[str | None]
    # When the current or the last placement was made; the reaper takes back those that no worker
    # begins. NULL: never placed.
    placed_at: Mapped[datetime | None]
    # When the last attempt began. NULL: none has.
    started_at: Mapped[datetime | None]
    # The worker may finish until then. Begin and each renewal set it; the reaper takes the job back
    # after it. NULL unless processing.
    lease_until: Mapped[datetime | None]
    # The attempt may not be renewed after then, however well it renews. Set by begin. NULL unless
    # processing.
    attempt_until: Mapped[datetime | None]
    # Drawn at random by the worker for each message, written by begin, and matched by every later
    # call of the attempt. A crash may hand the same fence out twice, but never a token. NULL while
    # queued, and until the first begin. An ended job keeps that of its last attempt.
    lease_token: Mapped[str | None]
    # Denoiser steps done, as of the last renewal. Redis has newer ones.
    step: Mapped[int] = mapped_column(server_default=text("0"))
    # Set while processing, by a cancel. The worker sees it when it renews.
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))

    # How it ended. Written by app.store.job.jobs.end alone; NULL until then.
    # The end, by the database's clock.
    finished_at: Mapped[datetime | None]
    # Key of the clip in object storage. NULL unless succeeded.
    output_key: Mapped[str | None]
    # Size of the clip. NULL unless succeeded.
    output_bytes: Mapped[int | None]
    # Why it has no clip: a stable code for programs, and a sentence for people. NULL if it
    # succeeded.
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]

    # How long picture and clip are kept.
    # Seconds from the end; 0 after the client deleted a live job.
    retention_s: Mapped[int] = mapped_column(server_default=text("2592000"))
    # The end plus retention_s. After it clients get 410, and housekeeping purges the job. NULL
    # until the end; where an earlier release ended the job, until housekeeping has seen it.
    expires_at: Mapped[datetime | None]
    # When the row became a tombstone: picture, clip and the client's texts are gone, and what usage
    # and idempotency need stays. The row is deleted once they need it no more. NULL: not purged.
    purged_at: Mapped[datetime | None]

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
        # Placing: equality on the first two columns, then the order in which jobs are taken
        # (app/store/job/queue.py).
        Index(
            "ix_jobs_waiting",
            "profile",
            "next_region",
            "priority",
            "vstart",
            "id",
            postgresql_where=text(WAITING_SQL),
        ),
        # The same walk, over jobs that may leave their home: overflow.
        Index(
            "ix_jobs_waiting_movable",
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
        # No index has `lease_until` or `step`: so a renewal changes no index (a HOT update).
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
        # Slots: how many jobs of a key hold one, and which job is next.
        Index(
            "ix_jobs_slot",
            "owner_id",
            "slot",
            "priority",
            "vstart",
            "id",
            postgresql_where=text(LIMITED_SQL),
        ),
        # The latest service times, for predictions.
        Index(
            "ix_jobs_succeeded",
            "profile",
            "finished_at",
            postgresql_where=text("state = 'succeeded'"),
        ),
        Index("ix_jobs_expires_at", "expires_at", postgresql_where=text("purged_at IS NULL")),
        # The operations page: the latest ends, and the latest failures.
        Index(
            "ix_jobs_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")
        ),
        Index(
            "ix_jobs_failed", "finished_at", postgresql_where=text("state IN ('expired', 'failed')")
        ),
        # Listing one owner's jobs, newest first: ids grow with time.
        Index("ix_jobs_kept", "owner_id", "id", postgresql_where=text("purged_at IS NULL")),
        Index(
            "ix_jobs_owner_state",
            "owner_id",
            "state",
            "id",
            postgresql_where=text("purged_at IS NULL"),
        ),
        # Housekeeping: tombstones to delete, and ended jobs without a date to expire at.
        Index("ix_jobs_purged_at", "purged_at", postgresql_where=text("purged_at IS NOT NULL")),
        Index("ix_jobs_undated", "id", postgresql_where=text(UNDATED_SQL)),
    )


class AttemptRow(Base):
    """One placement of a job. Written at placement, closed when its fence is no longer current."""

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
    token: Mapped[str]  # of the claim that it took
    hops: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    placed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    begun_at: Mapped[datetime | None]
    worker: Mapped[str | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error_code: Mapped[str | None]
    timings: Mapped[dict[str, Any] | None]  # stage -> seconds, as the worker measured them
    # Of the worker that began it. NULL: none did, or one of a release that did not note them.
    model_version: Mapped[str | None]
    release: Mapped[str | None]


class IdempotencyRow(Base):
    """One idempotency key of one owner, and the job that it stands for."""

    __tablename__ = "idempotency_records"
    __table_args__ = (
        Index("ix_idempotency_records_created_at", "created_at"),
        # Deleting a job looks here for its records.
        Index("ix_idempotency_records_job_id", "job_id"),
    )

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]  # SHA-256 of the request
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class JobLabelRow(Base):
    """One label of one job, for lists by label: job/labels.py. A trigger on `jobs` writes it."""

    __tablename__ = "job_labels"
    __table_args__ = (Index("ix_job_labels_job_id", "job_id"),)

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    label: Mapped[bytes] = mapped_column(primary_key=True)  # the start of a hash: labels.digest
    # Without a foreign key: its check would lock the job's row for every label.
    job_id: Mapped[UUID] = mapped_column(primary_key=True)


class UsageDayRow(Base):
    """What an owner's jobs of one day and profile came to, of those that have been added up."""

    __tablename__ = "usage_days"

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)  # of the submit, UTC
    profile: Mapped[str] = mapped_column(primary_key=True)
    jobs: Mapped[int] = mapped_column(BigInteger)
    succeeded: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
    canceled: Mapped[int] = mapped_column(BigInteger)
    expired: Mapped[int] = mapped_column(BigInteger)
    cost_units: Mapped[float]
    gpu_seconds: Mapped[float]


class UsageRollUpRow(Base):
    """One row: up to when ended jobs have been added to `usage_days`."""

    __tablename__ = "usage_roll_up"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    ended_until: Mapped[datetime]
