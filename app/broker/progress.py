"""Step progress, and the request to stop, through the region's Redis.

Both are conveniences: the row holds the step of the last lease renewal and the cancel flag, and
the worker reads them there within RENEW_S when Redis is gone.
"""

from uuid import UUID

import redis

KEEP_S = 3600


def _key(job_id: UUID) -> str:
    return f"progress:{job_id}"


def report(client: redis.Redis, job_id: UUID, fence: int, step: int, steps: int) -> bool:
    """Publish step `step` of `steps`; True if somebody asked this attempt to stop.

    Raises redis.RedisError.
    """
    key = _key(job_id)
    pipe = client.pipeline(transaction=False)
    pipe.hset(key, mapping={"fence": fence, "step": step, "steps": steps})
    pipe.expire(key, KEEP_S)
    pipe.hget(key, "stop")
    return pipe.execute()[2] == str(fence)


def ask_stop(client: redis.Redis, job_id: UUID, fence: int) -> None:
    """Ask the worker of one attempt to stop at its next step. Raises redis.RedisError."""
    pipe = client.pipeline(transaction=False)
    pipe.hset(_key(job_id), "stop", str(fence))
    pipe.expire(_key(job_id), KEEP_S)
    pipe.execute()


def read(client: redis.Redis, job_id: UUID, fence: int) -> int | None:
    """The last step that this attempt reported, if known. Raises redis.RedisError."""
    known_fence, step = client.hmget(_key(job_id), "fence", "step")
    return int(step) if step is not None and known_fence == str(fence) else None
