"""Step progress, stop requests and hints to waiting clients, through the region's Redis.

All are conveniences. The row holds the step of the last lease renewal and the cancel flag; without
Redis the worker reads the flag there within RENEW_S. Those who wait for a job also poll it.
"""

import time
from typing import NamedTuple
from uuid import UUID

import redis

from app.broker import keys

KEEP_S = 3600


class Step(NamedTuple):
    """One reported step; `at` is Unix seconds, by the worker's clock."""

    fence: int
    step: int
    at: float


CHANGED = "changed"  # the other message on a job's channel


def channel(job_id: UUID) -> str:
    """Where a job's steps and changes of state are announced."""
    return keys.job_channel(job_id)


def heard(message: str) -> Step | None:
    """The step that a message announces; None means: read the row."""
    parts = message.split()
    return Step(int(parts[0]), int(parts[1]), float(parts[2])) if len(parts) == 3 else None


def changed(client: redis.Redis, job_id: UUID) -> None:
    """Tell those who wait for a job to read its row. Raises redis.RedisError."""
    client.publish(channel(job_id), CHANGED)


def report(client: redis.Redis, job_id: UUID, fence: int, step: int, steps: int) -> bool:
    """Publish step `step` of `steps`; True if this attempt was asked to stop.

    Raises redis.RedisError.
    """
    key = keys.progress(job_id)
    pipe = client.pipeline(transaction=False)
    pipe.publish(channel(job_id), f"{fence} {step} {time.time():.3f}")
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


def read(client: redis.Redis, job_id: UUID, fence: int) -> int | None:
    """The last step that this attempt reported, if known. Raises redis.RedisError."""
    known_fence, step = client.hmget(keys.progress(job_id), "fence", "step")
    return int(step) if step is not None and known_fence == str(fence) else None
