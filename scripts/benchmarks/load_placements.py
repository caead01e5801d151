"""How fast real dispatchers place jobs, with a consumer that costs almost nothing.

The dispatchers, Postgres and the Valkeys are real. A stub replaces the workers: it announces idle
ones, takes messages off the queues, and begins and finishes their attempts in batches.
"""

import json
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from typing import cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from app.broker.claims import Claims
from app.broker.connections import POOL_IDLE, connect, wake
from app.config.settings import Settings
from app.domain.job.lease import LEASE_S
from app.domain.job.state import uuid7
from app.domain.routing.topology import Pool
from app.store.job import jobs
from app.store.job.jobs import NewJob
from app.store.session import Store
from scripts.benchmarks.load_watch import Use, Watch
from scripts.stack import Stack, StackError
from stillmotion.states import JobState

WORKERS = 128  # idle ones per pool, enough that no dispatcher waits for one
TAKE = 500  # most messages per batch
ANNOUNCE_S = 1.0
REST_S = 0.005  # the stub's pause when its queues are empty
GIVE_UP_S = 300.0
BEGIN = text(
    """
    WITH begun AS (
        UPDATE jobs SET state = 'processing', begun = begun + 1, started_at = now(),
            lease_until = now() + make_interval(secs => :lease),
            attempt_until = now() + make_interval(secs => :lease)
        FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS taken(id, fence)
        WHERE jobs.id = taken.id AND jobs.fence = taken.fence AND state = 'starting'
          AND set_config('synchronous_commit', 'off', true) = 'off'
        RETURNING jobs.id, jobs.fence
    )
    UPDATE attempts SET begun_at = now(), worker = 'stub' FROM begun
    WHERE job_id = begun.id AND attempts.fence = begun.fence
    RETURNING job_id, token
    """
)


@dataclass(frozen=True)
class Placements:
    per_s: float
    # Placements per second, counted from the first one.
    by_second: NDArray[np.int64]
    claims_ms: NDArray[np.float64]
    use: Use


class StubPool:
    """The workers of one pool."""

    def __init__(self, pool: Pool, redis_url: str, store: Store):
        self.pool = pool
        self._store = store
        self._client = connect(redis_url, 5.0)
        self._claims = Claims(self._client)
        self._announce_at = 0.0

    def turn(self) -> int:
        """Announce workers, take the queued jobs and finish them. Returns the number of jobs."""
        if time.monotonic() >= self._announce_at:
            self._announce_at = time.monotonic() + ANNOUNCE_S
            for n in range(WORKERS):
                self._claims.announce(self.pool, f"stub-{n}")
            self._wake()
        # Kombu's Redis transport pushes on the left and pops from the right.
        messages = cast(list[bytes], self._client.rpop(self.pool.queue, TAKE) or [])
        if not messages:
            return 0
        # The task id is "<job>:<fence>".
        taken = [json.loads(each)["headers"]["id"].rsplit(":", 1) for each in messages]
        with self._store.begin() as tx:
            begun = tx.execute(
                BEGIN,
                {
                    "ids": [job_id for job_id, _ in taken],
                    "fences": [int(fence) for _, fence in taken],
                    "lease": LEASE_S,
                },
            ).fetchall()
        with self._store.begin() as tx:
            jobs.end(
                tx,
                JobState.SUCCEEDED,
                "id = ANY(:ids) AND state = 'processing'",
                {"ids": [row.job_id for row in begun]},
                outcome="succeeded",
                output=("outputs/stub.mp4", 1),
            )
        # The idle set keeps its entry: without the claim it counts as idle again.
        self._claims.give_back(self.pool, [row.token for row in begun])
        self._wake()
        return len(begun)

    def _wake(self) -> None:
        wake(self._client, f"{POOL_IDLE}{self.pool}")


def claim_ms(redis_url: str, rounds: int) -> NDArray[np.float64]:
    """Milliseconds per claim of a worker in a pool of 64 idle ones, on an otherwise idle Valkey."""
    client = connect(redis_url, 5.0)
    claims, pool = Claims(client), Pool("bench", "noop")
    took = np.empty(rounds)
    announce_at = 0.0
    for n in range(rounds):
        if time.monotonic() >= announce_at:
            announce_at = time.monotonic() + ANNOUNCE_S
            for worker in range(64):
                claims.announce(pool, f"stub-{worker}")
        token = secrets.token_hex(8)
        start = time.perf_counter()
        granted = claims.claim(pool, [token]).granted
        took[n] = (time.perf_counter() - start) * 1000
        if granted != [token]:
            raise StackError("A claim on an idle worker was refused.")
        claims.give_back(pool, granted)
    return took


def measure(stack: Stack, settings: Settings, count: int, *, claim_rounds: int) -> Placements:
    """Place `count` waiting jobs, half from each home region, with the stack's dispatchers.

    The stack runs no workers and no API. The rate excludes the first and the last tenth of the
    placements and uses the database's clock.
    """
    regions = settings.topology.names
    claims = claim_ms(settings.redis_of(regions[0]), claim_rounds)
    with closing(Store(settings.sqlalchemy_url, pool_size=2, timeout_s=60.0)) as store:
        ids = list(insert_waiting(store, list(islice(cycle(regions), count))))
        pools = [StubPool(Pool(name, "noop"), settings.redis_of(name), store) for name in regions]
        with Watch(stack, WORKERS * len(pools)) as watch:
            _consume(pools, count)
        with store.autocommit() as conn:
            placed = conn.execute(
                text(
                    "SELECT extract(epoch FROM placed_at)::float8 FROM jobs"
                    " WHERE id = ANY(:ids) ORDER BY placed_at"
                ),
                {"ids": ids},
            )
            at = np.array(placed.scalars().all())
    first, last = count // 10, count - count // 10
    seconds = (at - at[0]).astype(np.int64)
    return Placements(
        per_s=float((last - first) / (at[last - 1] - at[first])),
        by_second=np.bincount(seconds),
        claims_ms=claims,
        use=watch.use,
    )


def _consume(pools: list[StubPool], count: int) -> None:
    """Finish `count` jobs. Raises StackError if that takes longer than GIVE_UP_S."""
    finished, deadline = 0, time.monotonic() + GIVE_UP_S
    while finished < count:
        turned = sum(pool.turn() for pool in pools)
        finished += turned
        if time.monotonic() > deadline:
            raise StackError(f"Only {finished} of {count} jobs were placed in {GIVE_UP_S:.0f} s.")
        if not turned:
            time.sleep(REST_S)


def insert_waiting(store: Store, homes: Iterable[str], profile: str = "noop") -> Iterator[UUID]:
    """Insert waiting jobs, one per entry of `homes`, in one transaction."""
    with store.begin() as tx:
        owner = tx.execute(text("SELECT id FROM api_keys LIMIT 1")).scalar_one()
        for home in homes:
            job = NewJob(
                id=uuid7(time.time_ns() // 1_000_000, secrets.randbits(74)),
                owner_id=owner,
                profile=profile,
                prompt="",
                seed=1,
                frames=8,
                fps=8,
                size=64,
                steps=1,
                input_key="inputs/stub.jpg",
                home_region=home,
                policy="ring",
                max_queue_s=900.0,
            )
            jobs.add(tx, job)
            yield job.id
