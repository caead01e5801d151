"""The tables of webhooks: endpoints and deliveries."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, desc, text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.base import Base

# The receiver of a delivery: host and port of its address, which app.outbound.vet_url has spelled
# in the one canonical way. An index has this very expression.
RECEIVER_SQL = "lower(substring(url, '://([^/?#]*)'))"
# A delivery that is still owed. Every index that workers walk has this condition.
OPEN_SQL = "delivered_at IS NULL AND given_up_at IS NULL"


class WebhookEndpointRow(Base):
    """An address that is told of every job of its owner."""

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
    # Secrets are derived from a number, which a rotation raises. The previous secret also signs
    # until webhook_previous_until.
    webhook_secret_version: Mapped[int] = mapped_column(server_default=text("1"))
    webhook_previous_until: Mapped[datetime | None]


class DeliveryRow(Base):
    """One webhook: written in the statement that ended its job, or as a test of an endpoint."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("delivered_at IS NULL OR given_up_at IS NULL", name="one_end"),
        Index(
            "ix_webhook_deliveries_due",
            "next_at",
            postgresql_where=text(OPEN_SQL),
        ),
        Index("ix_webhook_deliveries_job_id", "job_id"),
        # What one receiver is due from one owner, and, by skipping from pair to pair, all of them.
        Index(
            "ix_webhook_deliveries_pair",
            text(RECEIVER_SQL),
            "owner_id",
            "next_at",
            postgresql_where=text(OPEN_SQL),
        ),
        # How many tries are under way, by receiver and by owner.
        Index(
            "ix_webhook_deliveries_leased",
            "leased_until",
            postgresql_where=text(f"leased_until IS NOT NULL AND {OPEN_SQL}"),
        ),
        # Listing one owner's deliveries, newest first.
        Index("ix_webhook_deliveries_owner", "owner_id", desc("created_at"), desc("id")),
        # Tests of endpoints, which go with no job.
        Index("ix_webhook_deliveries_tests", "created_at", postgresql_where=text("job_id IS NULL")),
        Index(
            "ix_webhook_deliveries_endpoint_id",
            "endpoint_id",
            postgresql_where=text("endpoint_id IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    # NULL: a test.
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    # NULL: it goes to the address that the job names.
    endpoint_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE")
    )
    event: Mapped[str]  # "job.succeeded", ...
    url: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    # Tries before the last redelivery. `tries` itself is a fence and never falls.
    tries_before: Mapped[int] = mapped_column(server_default=text("0"))
    # When the next try is due. While a worker holds the delivery, the end of that lease: one column
    # is both the schedule and the lock.
    next_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # The end of the lease again, or NULL; only for counting the tries under way.
    leased_until: Mapped[datetime | None]
    last_tried_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    given_up_at: Mapped[datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
