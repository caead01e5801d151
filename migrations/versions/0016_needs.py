"""What a worker must be able to do for a job; dispatchers that know no levels do not see such jobs.

Safe beside the previous release: its jobs need nothing new. It takes a waiting job that needs a
level for one in a backoff that never ends, so its dispatchers offer it to no worker. Its own queues
are walks along the new indexes, whose condition its own implies.
Can be run again after a failed index build: everything before it is committed by then.
"""

import sqlalchemy as sa
from alembic import op

from migrations.concurrently import exchange

revision = "0016"
down_revision = "0015"

NEVER = "TIMESTAMPTZ '9000-01-01 00:00:00+00'"
# Whoever requeues the job or ends its backoff; only placing a job and ending it leave the state.
FUNCTION = f"""
CREATE OR REPLACE FUNCTION hide_needs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.not_before := {NEVER};
    RETURN NEW;
END
$$
"""
# Jobs that need no level pay for the condition alone.
TRIGGER = """
CREATE TRIGGER hide_needs BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW
WHEN (NEW.needs > 0 AND NEW.state = 'queued' AND NEW.not_before IS NULL)
EXECUTE FUNCTION hide_needs()
"""
ORDER = "(profile, next_region, priority, vstart, id)"
OLD_WAITING = "'' || state = 'queued' AND not_before IS NULL AND slot IS NOT FALSE"
WAITING = (
    f"'' || state = 'queued' AND (not_before IS NULL OR not_before = {NEVER}) AND slot IS NOT FALSE"
)
INDEXES = {
    "ix_jobs_waiting": f"{ORDER} WHERE {WAITING}",
    "ix_jobs_waiting_movable": f"{ORDER} WHERE {WAITING} AND policy <> 'strict'",
}
OLD_INDEXES = {
    "ix_jobs_queue": f"{ORDER} WHERE {OLD_WAITING}",
    "ix_jobs_queue_movable": f"{ORDER} WHERE {OLD_WAITING} AND policy <> 'strict'",
}


def upgrade() -> None:
    needs = sa.Column("needs", sa.SmallInteger(), server_default=sa.text("0"), nullable=False)
    op.add_column("jobs", needs, if_not_exists=True)
    op.execute(FUNCTION)
    op.execute("DROP TRIGGER IF EXISTS hide_needs ON jobs")
    op.execute(TRIGGER)
    exchange("jobs", build=INDEXES, drop=OLD_INDEXES)


def downgrade() -> None:
    exchange("jobs", build=OLD_INDEXES, drop=INDEXES)
    op.execute("DROP TRIGGER hide_needs ON jobs")
    op.execute("DROP FUNCTION hide_needs")
    op.drop_column("jobs", "needs")
