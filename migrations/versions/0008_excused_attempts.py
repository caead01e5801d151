"""Do not count an attempt that failed because of an outage of a shared service.

Safe while the previous release runs: everything it writes is still allowed.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

GUARD = """
CREATE OR REPLACE FUNCTION guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('queued', 'starting'), ('queued', 'canceled'), ('queued', 'expired'),
        ('starting', 'queued'), ('starting', 'processing'), ('starting', 'canceled'),
        ('starting', 'expired'),
        ('processing', 'queued'), ('processing', 'succeeded'), ('processing', 'failed'),
        ('processing', 'canceled')
    ) THEN
        RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'guard_job';
    END IF;
    IF NEW.fence < OLD.fence OR NEW.begun < OLD.begun{excused} THEN
        RAISE EXCEPTION 'fence and begun of job % only grow', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'guard_job';
    END IF;
    IF OLD.finished_at IS NOT NULL AND (NEW.fence, NEW.output_key, NEW.finished_at)
            IS DISTINCT FROM (OLD.fence, OLD.output_key, OLD.finished_at) THEN
        RAISE EXCEPTION 'job % has ended', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'guard_job';
    END IF;
    RETURN NEW;
END
$$
"""
# Only for the running attempt, and only on its way back to the queue.
EXCUSED = " - (OLD.state = 'processing' AND NEW.state = 'queued')::int"


def upgrade() -> None:
    op.execute(GUARD.format(excused=EXCUSED))


def downgrade() -> None:
    op.execute(GUARD.format(excused=""))
