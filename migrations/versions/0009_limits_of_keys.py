"""Limits and the best priority of a key; deliveries by receiver and owner; accesses in the audit.

Safe beside the previous release: adds columns that are empty or constant, and indexes that are
built without blocking. That release sorts one receiver's due deliveries until it is replaced, and
it still accepts any priority.
Can be run again when an index build failed: what came before it is committed then.
"""

import sqlalchemy as sa
from alembic import op

from migrations.concurrently import exchange, patiently

revision = "0009"
down_revision = "0008"

OPEN = "delivered_at IS NULL AND given_up_at IS NULL"
RECEIVER = "(lower(substring(url, '://([^/?#]*)'))"
DELIVERIES = {"ix_webhook_deliveries_pair": f"{RECEIVER}, owner_id, next_at) WHERE {OPEN}"}
OLD_DELIVERIES = {"ix_webhook_deliveries_receiver": f"{RECEIVER}, next_at) WHERE {OPEN}"}
AUDIT = {"ix_audit_entries_subject": "(subject, key_id, at)"}
# Tombstones hold nothing that a client wrote; until now their deliveries still held its address.
FORGET = """
    DELETE FROM webhook_deliveries USING jobs
    WHERE jobs.id = job_id AND purged_at IS NOT NULL AND endpoint_id IS NULL
"""


def upgrade() -> None:
    for column in (
        sa.Column("upload_mb_per_day", sa.Integer(), nullable=True),
        sa.Column("webhooks_in_flight", sa.Integer(), nullable=True),
        sa.Column("best_priority", sa.SmallInteger(), server_default="1", nullable=False),
    ):
        op.add_column("api_keys", column, if_not_exists=True)
    op.execute("ALTER TABLE api_keys DROP CONSTRAINT IF EXISTS ck_api_keys_best_priority")
    op.create_check_constraint(
        op.f("ck_api_keys_best_priority"), "api_keys", "best_priority BETWEEN 0 AND 2"
    )
    exchange("webhook_deliveries", build=DELIVERIES, drop=OLD_DELIVERIES)
    exchange("audit_entries", build=AUDIT)
    with patiently():
        op.execute(FORGET)


def downgrade() -> None:
    exchange("webhook_deliveries", build=OLD_DELIVERIES, drop=DELIVERIES)
    op.drop_index("ix_audit_entries_subject", "audit_entries")
    for name in ("best_priority", "webhooks_in_flight", "upload_mb_per_day"):
        op.drop_column("api_keys", name)
