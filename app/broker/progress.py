"""Step progress, stop requests and hints to waiting clients, through the region's Redis.

All are conveniences. The row holds the step of the last lease renewal and the cancel flag; without
Redis the worker reads the flag there within RENEW_S. Those who wait for a job also poll it.
"""

from typing import NamedTuple
from uuid import UUID

import redis

from app.broker import keys
from app.broker.dropped import as_count, drop
from app.domain.job.messages import MAX_NUMBER

KEEP_S = 3600
MAX_CHARS = 64  # of a message
LATEST = 253_402_300_800.0  # the year 10000, which datetime cannot hold


class Step(NamedTuple):
    """One reported step; `at` is Unix seconds, by the database's clock."""

    fence: int
    step: int
    at: float


CHANGED = "changed"  # the other message on a job's channel


def channel(job_id: UUID) -> str:
    """Where a job's steps and changes of state are announced."""
    return keys.job_channel(job_id)


def heard(message: str) -> Step | None:
    """The step that a message announces; None means: read the row."""
    if message == CHANGED:
        return None
    try:
        fence, step, at = message[:MAX_CHARS].split()
        known = Step(int(fence), int(step), float(at))
    except ValueError:
        known = Step(-1, -1, -1.0)
    if min(known[:2]) < 0 or max(known[:2]) > MAX_NUMBER or not 0.0 <= known.at < LATEST:
        drop("progress", "not a step")
        return None
    return known


def changed(client: redis.Redis, job_id: UUID) -> None:
    """Tell those who wait for a job to read its row. Raises redis.RedisError."""
    client.publish(channel(job_id), CHANGED)


def report(client: redis.Redis, job_id: UUID, done: Step, steps: int) -> bool:
    """Publish one step of `steps`; True if this attempt was asked to stop.

    Raises redis.RedisError.
    """
    fence, step, at = done
    key = keys.progress(job_id)
    pipe = client.pipeline(transaction=False)
    pipe.publish(channel(job_id), f"{fence} {step} {at:.3f}")
    pipe.hset(key, mapping={"fence": fence, "step": step, "steps": steps})
    pipe.expire(key, KEEP_S)
    pipe.hget(key, "stop")
    return bool(pipe.execute()[3] == str(fence))


def ask_stop(client: redis.Redis, job_id: UUID, fence: int) -> None:
    """Ask the worker of one attempt to stop at its next step. Raises redis.RedisError."""
    pipe = client.pipeline(transaction=False)
    pipe.hset(keys.progress(job_id), "stop", str(fence))
    pipe.expire(keys.progress(job_id), KEEP_S)
    pipe.execute()


def stop_asked(client: redis.Redis, job_id: UUID, fence: int) -> bool:
    """Whether this attempt was asked to stop. Raises redis.RedisError."""
    return bool(client.hget(keys.progress(job_id), "stop") == str(fence))


def read(client: redis.Redis, job_id: UUID, fence: int) -> int | None:
    """The last step that this attempt reported, if known. Raises redis.RedisError."""
    known_fence, step = client.hmget(keys.progress(job_id), "fence", "step")
    return as_count(step, "progress") if known_fence == str(fence) else None
