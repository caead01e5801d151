"""How long renders took, how long current ones have been running, and what work waits.

For predictions. Times in seconds, costs in units (app/domain/job/cost.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from app.domain.job.service_time import Sample

SAMPLES = 64  # the last successes of a profile

# Walks ix_jobs_attempt_until and ix_jobs_placed_at, which have a few entries for each busy worker.
BUSY = text(
    """
    SELECT jobs.region, a.worker, cost, extract(epoch FROM now() - started_at) FROM jobs
    LEFT JOIN attempts AS a ON a.job_id = jobs.id AND a.fence = jobs.fence
    WHERE state = 'processing' AND profile = :profile
    UNION ALL
    SELECT region, NULL, cost, 0 FROM jobs WHERE state = 'starting' AND profile = :profile
    """
)
# Walks the newest end of ix_jobs_succeeded.
RECENT = text(
    """
    SELECT jobs.region, a.worker, cost,
        extract(epoch FROM started_at), extract(epoch FROM finished_at) FROM jobs
    LEFT JOIN attempts AS a ON a.job_id = jobs.id AND a.fence = jobs.fence
    WHERE state = 'succeeded' AND profile = :profile
    ORDER BY finished_at DESC LIMIT :samples
    """
)


class Running(NamedTuple):
    """A job on a worker: its cost, and how long it has been running."""

    cost: float
    elapsed_s: float


def busy(tx: Connection, profile: str) -> dict[str, list[Running]]:
    """By region, what each busy worker of a profile works on.

    Of a worker's attempts it is the newest: the worker is free when that one ends.
    """
    newest: dict[tuple[str, object], Running] = {}
    for n, (region, worker, cost, elapsed_s) in enumerate(tx.execute(BUSY, {"profile": profile})):
        running = Running(float(cost), max(0.0, float(elapsed_s)))
        known = newest.setdefault((region, worker or n), running)
        if running.elapsed_s < known.elapsed_s:
            newest[region, worker or n] = running
    found: dict[str, list[Running]] = {}
    for (region, _), running in newest.items():
        found.setdefault(region, []).append(running)
    return found


def recent(tx: Connection, profile: str) -> Sequence[Sample]:
    """A profile's latest successes, newest first: the time that each added to its worker's.

    It counts from the job's last begin, or from the end of the job that ended before it on the same
    worker, whichever is later: a worker begins a job while it still renders another.
    """
    rows = tx.execute(RECENT, {"profile": profile, "samples": SAMPLES}).fetchall()
    samples = []
    ended: dict[str, float] = {}
    for region, worker, cost, began, end in reversed(rows):
        since = max(float(began), ended.get(worker, 0.0))
        samples.append(Sample(region, float(cost), max(0.0, float(end) - since)))
        if worker is not None:
            ended[worker] = float(end)
    return samples[::-1]
