"""Index ended jobs by their end, and failures among them, for the operations page.

Safe beside the previous release: adds indexes, changes no column.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

INDEXES = {
    "ix_jobs_finished_at": "finished_at IS NOT NULL",
    "ix_jobs_failed": "state IN ('expired', 'failed')",
}


def upgrade() -> None:
    # CONCURRENTLY cannot run in a transaction; a plain build would block submits.
    with op.get_context().autocommit_block():
        op.execute("SET statement_timeout = '10min'")  # env.py allows 30 s
        for name, where in INDEXES.items():
            # A build that failed earlier leaves an INVALID index behind.
            op.drop_index(name, if_exists=True)
            op.create_index(
                name,
                "jobs",
                ["finished_at"],
                postgresql_where=sa.text(where),
                postgresql_concurrently=True,
            )
        op.execute("SET statement_timeout = '30s'")


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, table_name="jobs")
