"""Lists that read only what they show: by label, by state, and without tombstones.

Safe beside the previous release: a trigger labels the jobs that it submits, and its lists have the
condition of the new indexes. Its usage report reads a range of the primary key until it is
replaced, which takes longer.
Can be run again after a failed index build: everything before it is committed by then.
"""

import sqlalchemy as sa
from alembic import op

from migrations.concurrently import exchange, patiently

revision = "0012"
down_revision = "0011"

INDEXES = {
    "ix_jobs_kept": "(owner_id, id) WHERE purged_at IS NULL",
    "ix_jobs_owner_state": "(owner_id, state, id) WHERE purged_at IS NULL",
}
OLD_INDEXES = {"ix_jobs_owner": "(owner_id, id DESC)"}
# Strings only: nothing else can be asked for. app/store/job/labels.py computes the same digest.
LABELS = """
    INSERT INTO job_labels (owner_id, label, job_id)
    SELECT {job}.owner_id, substr(
        sha256(convert_to(key || chr(31) || (value #>> '{{}}'), 'UTF8')), 1, 8), {job}.id
    FROM {source} jsonb_each({job}.metadata)
    WHERE jsonb_typeof(value) = 'string'{only}
    ON CONFLICT DO NOTHING
"""
FUNCTION = f"""
CREATE OR REPLACE FUNCTION note_labels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {LABELS.format(job="NEW", source="", only="")};
    RETURN NULL;
END
$$
"""
# Jobs that were submitted before there was a trigger.
BATCH = f"""
    WITH batch AS MATERIALIZED (
        SELECT id, owner_id, metadata, purged_at FROM jobs WHERE id > %(last)s
        ORDER BY id LIMIT 20000
    ), labelled AS ({LABELS.format(job="batch", source="batch,", only=" AND purged_at IS NULL")})
    SELECT (SELECT id::text FROM batch ORDER BY id DESC LIMIT 1)
"""
TRIGGER = """
CREATE TRIGGER note_labels AFTER INSERT ON jobs FOR EACH ROW
WHEN (NEW.metadata <> '{}'::jsonb) EXECUTE FUNCTION note_labels()
"""


def upgrade() -> None:
    op.create_table(
        "job_labels",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("label", sa.LargeBinary(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "label", "job_id", name=op.f("pk_job_labels")),
        if_not_exists=True,
    )
    op.create_index("ix_job_labels_job_id", "job_labels", ["job_id"], if_not_exists=True)
    op.execute(FUNCTION)
    op.execute("DROP TRIGGER IF EXISTS note_labels ON jobs")
    op.execute(TRIGGER)
    with patiently():
        last = "00000000-0000-0000-0000-000000000000"
        while last is not None:
            # Short transactions: one for all jobs would hold a snapshot for as long as it takes.
            last = op.get_bind().exec_driver_sql(BATCH, {"last": last}).scalar_one()
    exchange("jobs", build=INDEXES, drop=OLD_INDEXES)


def downgrade() -> None:
    exchange("jobs", build=OLD_INDEXES, drop=INDEXES)
    op.execute("DROP TRIGGER note_labels ON jobs")
    op.execute("DROP FUNCTION note_labels")
    op.drop_table("job_labels")
