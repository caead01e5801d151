"""How long workers take, and how long the busy ones have been at it; for predictions. Seconds."""

from sqlalchemy import Connection, text

SAMPLES = 64  # the last successes of a profile

# Both by partial indexes with as many entries as there are busy workers.
BUSY = text(
    """
    SELECT region, extract(epoch FROM now() - started_at) FROM jobs
    WHERE state = 'processing' AND profile = :profile
    UNION ALL
    SELECT region, 0 FROM jobs WHERE state = 'starting' AND profile = :profile
    """
)
OF_LATE = text(
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
    """By region, how long each of a profile's busy workers has worked on its job."""
    found: dict[str, list[float]] = {}
    for region, elapsed_s in tx.execute(BUSY, {"profile": profile}):
        found.setdefault(region, []).append(max(0.0, float(elapsed_s)))
    return found


def of_late(tx: Connection, profile: str) -> dict[str, float]:
    """By region, the median time from begin to end of a profile's last successes."""
    rows = tx.execute(OF_LATE, {"profile": profile, "samples": SAMPLES})
    return {region: float(median) for region, median in rows}
