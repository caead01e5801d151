"""How long renders take, and how long current ones have been running, in seconds.

For predictions.
"""

from sqlalchemy import Connection, text

SAMPLES = 64  # the last successes of a profile

# Walks ix_jobs_lease_until and ix_jobs_placed_at, which have one entry for each busy worker.
BUSY = text(
    """
    SELECT region, extract(epoch FROM now() - started_at) FROM jobs
    WHERE state = 'processing' AND profile = :profile
    UNION ALL
    SELECT region, 0 FROM jobs WHERE state = 'starting' AND profile = :profile
    """
)
# Walks the newest end of ix_jobs_succeeded.
RECENT = text(
    """
    SELECT region, percentile_cont(0.5) WITHIN GROUP (
        ORDER BY extract(epoch FROM finished_at - started_at))
    FROM (
        SELECT region, started_at, finished_at FROM jobs
        WHERE state = 'succeeded' AND profile = :profile
        ORDER BY finished_at DESC LIMIT :samples
    ) AS ended GROUP BY region
    """
)


def busy(tx: Connection, profile: str) -> dict[str, list[float]]:
    """By region, how long each busy worker of a profile has been on its job."""
    found: dict[str, list[float]] = {}
    for region, elapsed_s in tx.execute(BUSY, {"profile": profile}):
        found.setdefault(region, []).append(max(0.0, float(elapsed_s)))
    return found


def recent(tx: Connection, profile: str) -> dict[str, float]:
    """By region, the median time from begin to end of a profile's latest successes."""
    rows = tx.execute(RECENT, {"profile": profile, "samples": SAMPLES})
    return {region: float(median) for region, median in rows}
