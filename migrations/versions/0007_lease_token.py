"""The token of an attempt's lease, drawn by the worker that begins it.

Safe while the previous release runs: adds an empty column. Attempts begun by that release have no
token, and it ends them by their fence alone. An attempt of this release is ended by the worker that
began it, which knows the token.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("lease_token", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "lease_token")
