"""Usage by day, and the deletion of rows that nobody needs any more.

Safe beside the previous release: adds tables that it does not know, and indexes that are built
without blocking. A dispatcher of this release adds up the jobs that have ended so far, in short
transactions; until it has, usage reports count the rest from the jobs.
"""

import sqlalchemy as sa
from alembic import op

from migrations.concurrently import exchange

revision = "0013"
down_revision = "0012"

COUNTS = ("jobs", "succeeded", "failed", "canceled", "expired")
UNDATED = "finished_at IS NOT NULL AND expires_at IS NULL AND purged_at IS NULL"
JOBS = {
    "ix_jobs_purged_at": "(purged_at) WHERE purged_at IS NOT NULL",
    "ix_jobs_undated": f"(id) WHERE {UNDATED}",
}
RECORDS = {"ix_idempotency_records_job_id": "(job_id)"}
DELIVERIES = {"ix_webhook_deliveries_tests": "(created_at) WHERE job_id IS NULL"}


def upgrade() -> None:
    op.create_table(
        "usage_days",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS),
        sa.Column("cost_units", sa.Float(), nullable=False),
        sa.Column("gpu_seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["api_keys.id"], name=op.f("fk_usage_days_owner_id")),
        sa.PrimaryKeyConstraint("owner_id", "day", "profile", name=op.f("pk_usage_days")),
        if_not_exists=True,
    )
    op.create_table(
        "usage_roll_up",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("ended_until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_usage_roll_up_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_roll_up")),
        if_not_exists=True,
    )
    exchange("jobs", build=JOBS)
    exchange("idempotency_records", build=RECORDS)
    exchange("webhook_deliveries", build=DELIVERIES)


def downgrade() -> None:
    for name, table in (
        ("ix_webhook_deliveries_tests", "webhook_deliveries"),
        ("ix_idempotency_records_job_id", "idempotency_records"),
        ("ix_jobs_undated", "jobs"),
        ("ix_jobs_purged_at", "jobs"),
    ):
        op.drop_index(name, table)
    op.drop_table("usage_roll_up")
    op.drop_table("usage_days")
