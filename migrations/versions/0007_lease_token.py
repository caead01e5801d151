"""The token of an attempt's lease, drawn by the worker that begins it.

Safe beside the previous release: adds a column that is empty. Attempts that the previous release
begins have no token, and it ends them by their fence alone; an attempt of this release is ended by
the worker that began it, which knows its token.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("lease_token", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "lease_token")
