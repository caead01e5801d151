"""Webhook endpoints as resources, rotation of secrets, event filters, and countable leases.

Safe while the previous release runs: adds a table, columns that are empty or constant, and indexes
that are built without blocking. That release's deliveries have no endpoint, which is correct.
Can be run again after a failed index build: everything before it is committed by then.
"""

import sqlalchemy as sa
from alembic import op

from migrations.concurrently import exchange

revision = "0004"
down_revision = "0003"

OPEN = "delivered_at IS NULL AND given_up_at IS NULL"
INDEXES = {
    "ix_webhook_deliveries_receiver":
        f"(lower(substring(url, '://([^/?#]*)')), next_at) WHERE {OPEN}",
    "ix_webhook_deliveries_leased": f"(leased_until) WHERE leased_until IS NOT NULL AND {OPEN}",
    "ix_webhook_deliveries_owner": "(owner_id, created_at DESC, id DESC)",
    "ix_webhook_deliveries_endpoint_id": "(endpoint_id) WHERE endpoint_id IS NOT NULL",
}  # fmt: skip


def rotation_columns() -> list[sa.Column]:
    return [
        sa.Column("webhook_secret_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("webhook_previous_until", sa.DateTime(timezone=True), nullable=True),
    ]


def upgrade() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        *rotation_columns(),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)",
            name=op.f("ck_webhook_endpoints_disabled_with_reason"),
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["api_keys.id"], name=op.f("fk_webhook_endpoints_owner_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
        sa.UniqueConstraint("owner_id", "url", name=op.f("uq_webhook_endpoints_owner_id")),
        if_not_exists=True,
    )
    for column in rotation_columns():
        op.add_column("api_keys", column, if_not_exists=True)
    op.add_column(
        "jobs",
        sa.Column("webhook_events", sa.ARRAY(sa.Text()), nullable=True),
        if_not_exists=True,
    )
    op.alter_column("webhook_deliveries", "job_id", nullable=True)
    op.add_column(
        "webhook_deliveries",
        sa.Column("endpoint_id", sa.Uuid(), nullable=True),
        if_not_exists=True,
    )
    op.execute(
        "ALTER TABLE webhook_deliveries DROP CONSTRAINT IF EXISTS fk_webhook_deliveries_endpoint_id"
    )
    op.create_foreign_key(
        op.f("fk_webhook_deliveries_endpoint_id"),
        "webhook_deliveries",
        "webhook_endpoints",
        ["endpoint_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.add_column(
        "webhook_deliveries",
        sa.Column("tries_before", sa.Integer(), server_default="0", nullable=False),
        if_not_exists=True,
    )
    for name in ("leased_until", "last_tried_at"):
        op.add_column(
            "webhook_deliveries",
            sa.Column(name, sa.DateTime(timezone=True), nullable=True),
            if_not_exists=True,
        )
    exchange("webhook_deliveries", build=INDEXES)


def downgrade() -> None:
    op.execute("DELETE FROM webhook_deliveries WHERE endpoint_id IS NOT NULL")
    op.drop_index("ix_webhook_deliveries_receiver", "webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_owner", "webhook_deliveries")
    # The other two go with their columns.
    for name in ("endpoint_id", "tries_before", "leased_until", "last_tried_at"):
        op.drop_column("webhook_deliveries", name)
    op.alter_column("webhook_deliveries", "job_id", nullable=False)
    op.drop_column("jobs", "webhook_events")
    for column in rotation_columns():
        op.drop_column("api_keys", column.name)
    op.drop_table("webhook_endpoints")
