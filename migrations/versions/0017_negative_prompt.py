"""What a job's clip should not show.

Safe beside the previous release: adds a column with a constant default, which it neither reads nor
writes. A worker of that release would render such a job without it, so it needs level 1
(app/domain/job/levels.py).
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column(
        "jobs", sa.Column("negative_prompt", sa.Text(), server_default="", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("jobs", "negative_prompt")
