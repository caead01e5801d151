"""Which model and which release made an attempt.

Safe beside the previous release: adds empty columns, which it neither reads nor writes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

VERSIONS = ("model_version", "release")


def upgrade() -> None:
    for name in VERSIONS:
        op.add_column("attempts", sa.Column(name, sa.Text(), nullable=True))


def downgrade() -> None:
    for name in VERSIONS:
        op.drop_column("attempts", name)
