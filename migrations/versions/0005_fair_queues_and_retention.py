"""Fair queues, slots, predictions, retention.

Safe beside the previous release: columns have defaults or may be NULL. That release places by an
order that the new indexes do not have, so its placements sort until it is replaced; and its
submits are stamped 0, which puts them at the head of their class.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

WAITING = "state = 'queued' AND not_before IS NULL"
LIVE = "state NOT IN ('canceled', 'expired', 'failed', 'succeeded')"
ENDED = "state IN ('canceled', 'expired', 'failed', 'succeeded')"
ORDER = ["profile", "next_region", "priority", "vstart", "id"]
INDEXES = {
    "ix_jobs_fair": (ORDER, f"{WAITING} AND slot IS NOT FALSE"),
    "ix_jobs_fair_movable": (ORDER, f"{WAITING} AND slot IS NOT FALSE AND policy <> 'strict'"),
    "ix_jobs_slot": (
        ["owner_id", "slot", "priority", "vstart", "id"],
        f"slot IS NOT NULL AND {LIVE}",
    ),
    "ix_jobs_succeeded": (["profile", "finished_at"], "state = 'succeeded'"),
    "ix_jobs_expires_at": (["expires_at"], "purged_at IS NULL"),
}
OLD_ORDER = ["profile", "next_region", "priority", "id"]
OLD_INDEXES = {
    "ix_jobs_waiting": (OLD_ORDER, WAITING),
    "ix_jobs_waiting_movable": (OLD_ORDER, f"{WAITING} AND policy <> 'strict'"),
}


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("max_concurrency", sa.Integer(), nullable=True))
    op.add_column("api_keys", sa.Column("submits_per_minute", sa.Integer(), nullable=True))
    for column in (
        sa.Column("vstart", sa.Float(), server_default="0", nullable=False),
        sa.Column("cost", sa.Float(), server_default="1", nullable=False),
        sa.Column("slot", sa.Boolean(), nullable=True),
        sa.Column("predicted_s", sa.Float(), nullable=True),
        sa.Column("retention_s", sa.Integer(), server_default="2592000", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("jobs", column)
    # NOT VALID: no scan under a lock; every old row keeps both by its defaults.
    for name, condition in (
        ("cost", "cost > 0"),
        ("only_ended_is_purged", f"purged_at IS NULL OR {ENDED}"),
    ):
        op.create_check_constraint(
            op.f(f"ck_jobs_{name}"), "jobs", condition, postgresql_not_valid=True
        )
    op.add_column("attempts", sa.Column("timings", postgresql.JSONB(), nullable=True))
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
    )
    op.create_index("ix_fair_tags_queue", "fair_tags", ["profile", "region", "priority", "finish"])
    _exchange(OLD_INDEXES, INDEXES)


def downgrade() -> None:
    _exchange(INDEXES, OLD_INDEXES)
    op.drop_table("fair_tags")
    op.drop_column("attempts", "timings")
    for name in ("cost", "only_ended_is_purged"):
        op.drop_constraint(op.f(f"ck_jobs_{name}"), "jobs")
    for name in ("purged_at", "expires_at", "retention_s", "predicted_s", "slot", "cost", "vstart"):
        op.drop_column("jobs", name)
    for name in ("submits_per_minute", "max_concurrency"):
        op.drop_column("api_keys", name)


def _exchange(old: dict, new: dict) -> None:
    """Build the new indexes, then drop the old ones; jobs are submitted meanwhile."""
    with op.get_context().autocommit_block():
        op.execute("SET statement_timeout = '10min'")  # env.py allows 30 s
        for name, (columns, condition) in new.items():
            # A build that failed earlier leaves an INVALID index behind.
            op.drop_index(name, table_name="jobs", if_exists=True)
            op.create_index(
                name,
                "jobs",
                columns,
                postgresql_where=sa.text(condition),
                postgresql_concurrently=True,
            )
        for name in old:
            op.drop_index(name, table_name="jobs", postgresql_concurrently=True)
        op.execute("SET statement_timeout = '30s'")
