"""What a worker must be able to do for a job, and no placement by dispatchers that do not ask.

Safe beside the previous release: its jobs need nothing new, and its dispatchers pass over jobs that
do. They know no levels, so they would hand such a job to any worker: the trigger leaves the row as
it is, as if another dispatcher had been faster.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

COLUMNS = (
    sa.Column("needs", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
    sa.Column("placed_for", sa.SmallInteger(), nullable=True),
)
# A requeue forgets `placed_for`: those of earlier releases do not look at it.
FUNCTION = """
CREATE OR REPLACE FUNCTION guard_needs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = 'queued' THEN
        NEW.placed_for := NULL;
    ELSIF NEW.placed_for IS DISTINCT FROM NEW.needs THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$
"""
# Jobs without new fields pay for the condition alone.
TRIGGER = """
CREATE TRIGGER guard_needs BEFORE UPDATE ON jobs FOR EACH ROW
WHEN (NEW.needs > 0 AND OLD.state <> NEW.state AND NEW.state IN ('queued', 'starting'))
EXECUTE FUNCTION guard_needs()
"""


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("jobs", column, if_not_exists=True)
    op.execute(FUNCTION)
    op.execute("DROP TRIGGER IF EXISTS guard_needs ON jobs")
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER guard_needs ON jobs")
    op.execute("DROP FUNCTION guard_needs")
    for column in COLUMNS:
        op.drop_column("jobs", column.name)
