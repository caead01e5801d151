"""How long renders took, how long current ones have been running, and what work waits.

For predictions. Times in seconds, costs in units (app/domain/job/cost.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from app.domain.job.service_time import Sample

SAMPLES = 64  # the last successes of a profile

# Walks ix_jobs_attempt_until and ix_jobs_placed_at, which have one entry for each busy worker.
BUSY = text(
    """
    SELECT region, cost, extract(epoch FROM now() - started_at) FROM jobs
    WHERE state = 'processing' AND profile = :profile
    UNION ALL
    SELECT region, cost, 0 FROM jobs WHERE state = 'starting' AND profile = :profile
    """
)
# Walks the newest end of ix_jobs_succeeded.
RECENT = text(
    """
    SELECT region, cost, extract(epoch FROM finished_at - started_at) FROM jobs
    WHERE state = 'succeeded' AND profile = :profile
    ORDER BY finished_at DESC LIMIT :samples
    """
)


class Running(NamedTuple):
    """A job on a worker: its cost, and how long it has been running."""

    cost: float
    elapsed_s: float


def busy(tx: Connection, profile: str) -> dict[str, list[Running]]:
    """By region, what each busy worker of a profile works on."""
    found: dict[str, list[Running]] = {}
    for region, cost, elapsed_s in tx.execute(BUSY, {"profile": profile}):
        running = Running(float(cost), max(0.0, float(elapsed_s)))
        found.setdefault(region, []).append(running)
    return found


def recent(tx: Connection, profile: str) -> Sequence[Sample]:
    """A profile's latest successes, newest first; a time counts from the job's last begin."""
    rows = tx.execute(RECENT, {"profile": profile, "samples": SAMPLES})
    return [Sample(region, float(cost), max(0.0, float(took_s))) for region, cost, took_s in rows]
