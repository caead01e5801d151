"""Index ended jobs by their end, and failures among them, for the operations page.

Safe while the previous release runs: adds indexes, changes no column.
"""

from alembic import op

from migrations.concurrently import exchange

revision = "0006"
down_revision = "0005"

INDEXES = {
    "ix_jobs_finished_at": "(finished_at) WHERE finished_at IS NOT NULL",
    "ix_jobs_failed": "(finished_at) WHERE state IN ('expired', 'failed')",
}


def upgrade() -> None:
    exchange("jobs", build=INDEXES)


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, table_name="jobs")
