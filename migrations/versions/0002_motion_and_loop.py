"""A job's motion strength and loop.

Safe while the previous release runs: columns with constant defaults rewrite no table, and that
release's inserts get the defaults.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("motion", sa.Float(), server_default="1", nullable=False))
    op.add_column("jobs", sa.Column("loop", sa.Boolean(), server_default="false", nullable=False))


def downgrade() -> None:
    op.drop_column("jobs", "loop")
    op.drop_column("jobs", "motion")
