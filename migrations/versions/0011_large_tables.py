"""Plans, statistics and vacuums for large tables; renewals that change no index.

Safe beside the previous release: its reaper finds processing jobs through ix_jobs_attempt_until,
and its placements sort the waiting jobs until it is replaced.
Can be run again after a failed index build: everything before it is committed by then. Fill factors
and autovacuum's settings apply to what is written and vacuumed from now on.
"""

from alembic import op

from migrations.concurrently import exchange

revision = "0011"
down_revision = "0010"

ORDER = "(profile, next_region, priority, vstart, id)"
WAITING = "state = 'queued' AND not_before IS NULL AND slot IS NOT FALSE"
# The same jobs, in a form that implies the condition of no other index (app/store/models.py).
ONLY_WAITING = f"'' || {WAITING}"
INDEXES = {
    "ix_jobs_queue": f"{ORDER} WHERE {ONLY_WAITING}",
    "ix_jobs_queue_movable": f"{ORDER} WHERE {ONLY_WAITING} AND policy <> 'strict'",
}
OLD_INDEXES = {
    "ix_jobs_fair": f"{ORDER} WHERE {WAITING}",
    "ix_jobs_fair_movable": f"{ORDER} WHERE {WAITING} AND policy <> 'strict'",
    "ix_jobs_lease_until": "(lease_until) WHERE state = 'processing'",
}
# By default a vacuum waits for 20 % of a table to be dead, and statistics for 10 % to change: 20
# and 10 million rows of 100 million, while what everybody reads is the few live jobs.
OFTEN = {
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 10_000,
    "autovacuum_vacuum_insert_scale_factor": 0,
    "autovacuum_vacuum_insert_threshold": 100_000,
    "autovacuum_analyze_scale_factor": 0,
    "autovacuum_analyze_threshold": 10_000,
}
# Room on each page for the next version of its rows, which then needs no new index entry.
SETTINGS = {
    "jobs": OFTEN | {"fillfactor": 90},
    "attempts": OFTEN | {"fillfactor": 90},
    "webhook_deliveries": OFTEN,
}


def upgrade() -> None:
    for table, settings in SETTINGS.items():
        values = ", ".join(f"{name} = {value}" for name, value in settings.items())
        op.execute(f"ALTER TABLE {table} SET ({values})")
    exchange("jobs", build=INDEXES, drop=OLD_INDEXES)


def downgrade() -> None:
    exchange("jobs", build=OLD_INDEXES, drop=INDEXES)
    for table, settings in SETTINGS.items():
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(settings)})")
