"""The names of every Redis key and channel that dispatchers, workers and the API share."""

from uuid import UUID

from app.domain.routing.topology import Pool

# Channel of the wake-ups that every dispatcher hears; `wake_taken` says which one acts.
WAKE = "stillmotion:wake"
# List of the wake-ups that one dispatcher takes each, and what is there while dispatchers do.
WAKE_UPS, TURNS = "{stillmotion:wake}:ups", "{stillmotion:wake}:turns"
# Workers that operators have drained; a worker's announcement looks here.
DRAINED_WORKERS = "stillmotion:drained_workers"
# Copies of rows in Postgres: the routing table in force, and the operators' decisions.
TABLE, CONTROLS = "stillmotion:table", "stillmotion:controls"
# There while a sweep was asked for not long ago.
SWEEP = "stillmotion:sweep"


def wake_taken(nonce: str) -> str:
    return f"{WAKE}:{nonce}"


# The braces keep one pool's keys, of every level, on one shard of a Redis cluster.


def _level(pool: Pool) -> str:
    return f"+{pool.needs}" if pool.needs else ""


def idle(pool: Pool) -> str:
    """Sorted set of workers that are ready and empty-handed, by the end of their entry."""
    return f"{{{pool}}}:idle{_level(pool)}"


def ready(pool: Pool) -> str:
    """Sorted set of workers that are warm and not draining, busy ones included."""
    return f"{{{pool}}}:ready{_level(pool)}"


def alive(pool: Pool) -> str:
    """Sorted set of worker processes, draining ones included, by the end of their entry.

    Entries stay for an hour after their end: one that has ended proves that a worker of this name
    announced itself and stopped, one that is missing proves nothing.
    """
    return f"{{{pool}}}:alive"


def claims(pool: Pool) -> str:
    """Sorted set of the tokens of placements that have not begun."""
    return f"{{{pool}}}:claims{_level(pool)}"


def short(pool: Pool) -> str:
    """There while the pool's last claim left jobs without a worker."""
    return f"{{{pool}}}:short"


def emptied(pool: Pool | str) -> str:
    """There while dispatchers may remember that a claim left no idle worker in the pool."""
    return f"{{{pool}}}:emptied"


def served(pool: Pool) -> str:
    """Hash: jobs served, and the ms that they took."""
    return f"{{{pool}}}:served"


def setup(region: str, worker: str) -> str:
    """How far a worker is with its set-up, as JSON."""
    return f"{{setup:{region}}}:{worker}"


def setups(region: str) -> str:
    """Sorted set of the workers of which `setup` knows, by the end of their entry."""
    return f"{{setup:{region}}}"


def report(region: str) -> str:
    """The region's newest report, as JSON."""
    return f"stillmotion:report:{region}"


def reporter(region: str) -> str:
    """There while one dispatcher has the turn to report on the region."""
    return f"stillmotion:reporter:{region}"


def refused(region: str) -> str:
    """Counts the submits with this home that admission refused."""
    return f"stillmotion:refused:{region}"


def progress(job_id: UUID) -> str:
    """Hash: the step of the running attempt, and the request to stop it."""
    return f"progress:{job_id}"


def job_channel(job_id: UUID) -> str:
    """Channel of a job's steps and changes of state."""
    return f"stillmotion:job:{job_id}"
