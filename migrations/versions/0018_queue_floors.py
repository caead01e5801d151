"""Where each queue's first job is at least, so that nobody walks over those that have left.

Safe beside the previous release: its statements do not read floors, and the trigger raises what it
puts back into a queue. Both releases stamp submits, each with tags of its own; a key that submits
through both gets up to two turns while the upgrade lasts.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

QUEUE = ("profile", "region", "priority")
# In a form that look-ups of one owner's mark do not have: they must not walk over all owners.
MARKS_OF_QUEUE = "('' || profile), ('' || region), (priority + 0), (finish + 0)"
# A job may join a queue with an old virtual start: a retry, a backoff that ended, another home.
FUNCTION = """
CREATE OR REPLACE FUNCTION stay_above_floor() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.vstart := greatest(NEW.vstart, (
        SELECT next_vstart FROM queue_floors
        WHERE profile = NEW.profile AND region = NEW.next_region AND priority = NEW.priority));
    RETURN NEW;
END
$$
"""
TRIGGER = """
CREATE TRIGGER stay_above_floor BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW
WHEN (NEW.state = 'queued') EXECUTE FUNCTION stay_above_floor()
"""


def queue_columns() -> list[sa.Column[str] | sa.Column[int]]:
    return [
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "queue_floors",
        *queue_columns(),
        sa.Column("vstart", sa.Float(), nullable=False),
        sa.Column("next_vstart", sa.Float(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(*QUEUE, name=op.f("pk_queue_floors")),
    )
    op.create_table(
        "fair_marks",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        *queue_columns(),
        sa.Column("finish", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["api_keys.id"], name=op.f("fk_fair_marks_owner_id")),
        sa.PrimaryKeyConstraint("owner_id", *QUEUE, "finish", name=op.f("pk_fair_marks")),
    )
    op.execute(f"CREATE INDEX ix_fair_marks_queue ON fair_marks ({MARKS_OF_QUEUE})")
    op.execute(
        "INSERT INTO fair_marks (owner_id, profile, region, priority, finish)"
        " SELECT owner_id, profile, region, priority, finish FROM fair_tags"
    )
    op.execute(FUNCTION)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER stay_above_floor ON jobs")
    op.execute("DROP FUNCTION stay_above_floor")
    op.drop_table("fair_marks")
    op.drop_table("queue_floors")
