"""Routing tables, operators' controls and their audit, and the sequence of regional reports.

Safe while the previous release runs: it does not use the new tables and sequence.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "routing_tables",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_routing_tables")),
    )
    op.create_table(
        "controls",
        sa.Column("setting", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "setting IN ('drained', 'cap', 'drained_worker', 'pinned')",
            name=op.f("ck_controls_setting_known"),
        ),
        sa.CheckConstraint(
            "(setting = 'cap') = (value IS NOT NULL) AND value >= 0",
            name=op.f("ck_controls_cap_has_value"),
        ),
        sa.PrimaryKeyConstraint("setting", "subject", name=op.f("pk_controls")),
    )
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("key_name", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("old", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("new", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_audit_entries_key_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    op.execute("CREATE SEQUENCE report_sequence AS bigint")


def downgrade() -> None:
    op.execute("DROP SEQUENCE report_sequence")
    for table in ("audit_entries", "controls", "routing_tables"):
        op.drop_table(table)
