"""Figures of the whole deployment for metrics, in two statements that stay cheap.

Plan: `_LIVE` walks ix_jobs_queue_deadline and ix_jobs_attempt_until, which have one entry for each
live job, up to COUNTED; `_HEALTH` reads the newest entry of pk_routing_tables and Postgres's own
views.
"""

from typing import NamedTuple

from sqlalchemy import Connection, text

from app.store.models import WAITING_SQL
from app.store.record import record

COUNTED = 100_000  # more live jobs of a kind are reported as this many

_LIVE = text(
    f"""
    SELECT profile, region, state, priority, count(*),
        CAST(extract(epoch FROM now() - min(created_at) FILTER (WHERE {WAITING_SQL})) AS float8)
    FROM (
        (SELECT profile, CASE state WHEN 'queued' THEN next_region ELSE region END AS region,
             state, priority, created_at, not_before, slot
         FROM jobs WHERE state IN ('queued', 'starting') ORDER BY queue_deadline LIMIT :most)
        UNION ALL
        (SELECT profile, region, state, priority, created_at, not_before, slot
         FROM jobs WHERE state = 'processing' ORDER BY attempt_until LIMIT :most)
    ) AS live GROUP BY 1, 2, 3, 4
    """
)
# Other roles' snapshots are visible to members of pg_read_all_stats only.
_HEALTH = text(
    """
    SELECT
        (SELECT CAST(extract(epoch FROM now() - created_at) AS float8)
         FROM routing_tables ORDER BY version DESC LIMIT 1),
        (SELECT coalesce(max(age(snapshot)), 0) FROM (
            SELECT backend_xmin AS snapshot FROM pg_stat_activity
            UNION ALL SELECT xmin FROM pg_replication_slots
            UNION ALL SELECT transaction FROM pg_prepared_xacts) AS open),
        (SELECT coalesce(json_object_agg(relname, n_dead_tup), '{}') FROM pg_stat_user_tables
         WHERE relname IN ('jobs', 'attempts', 'webhook_deliveries'))
    """
)


class LiveJobs(NamedTuple):
    """The live jobs of one kind."""

    profile: str
    region: str  # of queued jobs: where they wait
    state: str
    priority: int
    jobs: int
    oldest_s: float | None  # since the submit of the oldest that waits; None: none does


@record
class Health:
    """How the database is. Ages in seconds and in transactions."""

    table_age_s: float | None  # None: there is no routing table
    xmin_age: int
    dead_rows: dict[str, int]  # by table


def live(tx: Connection) -> list[LiveJobs]:
    """The live jobs by profile, region, state and priority."""
    return [LiveJobs(*row) for row in tx.execute(_LIVE, {"most": COUNTED})]


def health(tx: Connection) -> Health:
    """What Postgres says about itself, and the age of the newest routing table."""
    return Health(*tx.execute(_HEALTH).one())
