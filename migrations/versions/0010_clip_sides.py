"""The width and height of a job's clip.

Safe beside the previous release: adds two empty columns, which that release neither reads nor
writes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

SIDES = ("width", "height")


def upgrade() -> None:
    for side in SIDES:
        op.add_column("jobs", sa.Column(side, sa.Integer(), nullable=True))


def downgrade() -> None:
    for side in SIDES:
        op.drop_column("jobs", side)
