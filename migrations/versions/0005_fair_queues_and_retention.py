"""Fair queues, slots, predictions, retention.

Safe while the previous release runs: columns have defaults or may be NULL. The new indexes do not
have that release's order of placement, so its placements sort until it is replaced. Its submits are
stamped 0, which puts them at the head of their class.
Can be run again after a failed index build: everything before it is committed by then.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.concurrently import exchange

revision = "0005"
down_revision = "0004"

WAITING = "state = 'queued' AND not_before IS NULL"
LIVE = "state NOT IN ('canceled', 'expired', 'failed', 'succeeded')"
ENDED = "state IN ('canceled', 'expired', 'failed', 'succeeded')"
ORDER = "(profile, next_region, priority, vstart, id)"
INDEXES = {
    "ix_jobs_fair": f"{ORDER} WHERE {WAITING} AND slot IS NOT FALSE",
    "ix_jobs_fair_movable": f"{ORDER} WHERE {WAITING} AND slot IS NOT FALSE AND policy <> 'strict'",
    "ix_jobs_slot":
        f"(owner_id, slot, priority, vstart, id) WHERE slot IS NOT NULL AND {LIVE}",
    "ix_jobs_succeeded": "(profile, finished_at) WHERE state = 'succeeded'",
    "ix_jobs_expires_at": "(expires_at) WHERE purged_at IS NULL",
}  # fmt: skip
OLD_ORDER = "(profile, next_region, priority, id)"
OLD_INDEXES = {
    "ix_jobs_waiting": f"{OLD_ORDER} WHERE {WAITING}",
    "ix_jobs_waiting_movable": f"{OLD_ORDER} WHERE {WAITING} AND policy <> 'strict'",
}


def upgrade() -> None:
    for name in ("max_concurrency", "submits_per_minute"):
        op.add_column("api_keys", sa.Column(name, sa.Integer(), nullable=True), if_not_exists=True)
    for column in (
        sa.Column("vstart", sa.Float(), server_default="0", nullable=False),
        sa.Column("cost", sa.Float(), server_default="1", nullable=False),
        sa.Column("slot", sa.Boolean(), nullable=True),
        sa.Column("predicted_s", sa.Float(), nullable=True),
        sa.Column("retention_s", sa.Integer(), server_default="2592000", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("jobs", column, if_not_exists=True)
    # NOT VALID avoids a scan under a lock. By their defaults, all old rows satisfy both.
    for name, condition in (
        ("cost", "cost > 0"),
        ("only_ended_is_purged", f"purged_at IS NULL OR {ENDED}"),
    ):
        op.execute(f"ALTER TABLE jobs DROP CONSTRAINT IF EXISTS ck_jobs_{name}")
        op.create_check_constraint(
            op.f(f"ck_jobs_{name}"), "jobs", condition, postgresql_not_valid=True
        )
    op.add_column(
        "attempts", sa.Column("timings", postgresql.JSONB(), nullable=True), if_not_exists=True
    )
    op.create_table(
        "fair_tags",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("finish", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["api_keys.id"], name=op.f("fk_fair_tags_owner_id")),
        sa.PrimaryKeyConstraint(
            "owner_id", "profile", "region", "priority", name=op.f("pk_fair_tags")
        ),
        if_not_exists=True,
    )
    op.create_index(
        "ix_fair_tags_queue",
        "fair_tags",
        ["profile", "region", "priority", "finish"],
        if_not_exists=True,
    )
    exchange("jobs", build=INDEXES, drop=OLD_INDEXES)


def downgrade() -> None:
    exchange("jobs", build=OLD_INDEXES, drop=INDEXES)
    op.drop_table("fair_tags")
    op.drop_column("attempts", "timings")
    for name in ("cost", "only_ended_is_purged"):
        op.drop_constraint(op.f(f"ck_jobs_{name}"), "jobs")
    for name in ("purged_at", "expires_at", "retention_s", "predicted_s", "slot", "cost", "vstart"):
        op.drop_column("jobs", name)
    for name in ("submits_per_minute", "max_concurrency"):
        op.drop_column("api_keys", name)
