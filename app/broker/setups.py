"""How far workers are with their set-up, in their region's Redis, for operators to see.

A worker that loads is in none of the pool's sets (claims.py): it cannot take jobs. It may do so for
minutes, and what went wrong would be in the log of a process that has ended.

Every function raises redis.RedisError.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import redis

from app.broker import keys
from app.broker.dropped import drop
from app.domain.unreadable import UNREADABLE
from app.domain.worker_phase import WorkerPhase

LINES = 12  # of the log, the newest
LINE_CHARS = 200
KEPT_S = 15  # several times the interval between two writes
FAILED_KEPT_S = 600  # nobody renews it
LATEST = 253_402_300_800.0  # the year 10000, which datetime cannot hold
MAX_CHARS = 4 * LINES * LINE_CHARS  # of an entry as JSON


@dataclass(frozen=True)
class Setup:
    """One worker. `since`: when its phase began, in Unix seconds by its own clock."""

    worker: str
    profile: str
    phase: WorkerPhase
    since: float
    log: Sequence[str] = ()


def write(client: redis.Redis, region: str, setup: Setup) -> None:
    """Show a worker for as long as it renews this, or for a while if its set-up failed."""
    kept_s = FAILED_KEPT_S if setup.phase is WorkerPhase.FAILED else KEPT_S
    log = [line[:LINE_CHARS] for line in setup.log[-LINES:]]
    text = json.dumps(asdict(setup) | {"log": log}, ensure_ascii=False)
    seconds, _ = client.time()
    pipe = client.pipeline(transaction=False)
    pipe.set(keys.setup(region, setup.worker), text, ex=kept_s)
    pipe.zadd(keys.setups(region), {setup.worker: seconds + kept_s})
    pipe.zremrangebyscore(keys.setups(region), "-inf", seconds)
    pipe.expire(keys.setups(region), FAILED_KEPT_S)
    pipe.execute()


def read(client: redis.Redis, region: str, limit: int) -> tuple[list[Setup], bool]:
    """At most `limit` workers of a region by name, and whether there are more."""
    seconds, _ = client.time()
    # redis-py's types cannot say that the clients decode.
    names = cast("list[str]", client.zrangebyscore(keys.setups(region), seconds, "+inf"))
    names.sort()
    shown = names[:limit]
    if not shown:
        return [], False
    texts = cast("list[str | None]", client.mget([keys.setup(region, worker) for worker in shown]))
    found = [_parse(text) for text in texts if text is not None]
    return [setup for setup in found if setup is not None], len(names) > limit


def _parse(text: str) -> Setup | None:
    try:
        if len(text) > MAX_CHARS:
            raise ValueError("too long")
        raw = json.loads(text)
        since = float(raw["since"])
        if not 0.0 <= since < LATEST:
            raise ValueError("no moment")
        return Setup(
            worker=str(raw["worker"]),
            profile=str(raw["profile"]),
            phase=WorkerPhase(raw["phase"]),
            since=since,
            log=tuple(str(line)[:LINE_CHARS] for line in list(raw["log"])[-LINES:]),
        )
    except UNREADABLE as error:
        drop("setup", type(error).__name__)
        return None
