"""Decides whether a GPU worker is ready and idle, and announces it to the dispatchers."""

import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from uuid import UUID

import redis
import structlog

from app.broker.claims import Claims
from app.domain.job.lease import (
    IDLE_S,
    WORKER_FAILURE_WINDOW_S,
    WORKER_FAILURES,
    WORKER_PAUSE_S,
)
from app.domain.routing.topology import Pool

log = structlog.get_logger(__name__)

ANNOUNCE_EVERY_S = 1.0


class Presence:
    """One worker's entry in its pool's idle set.

    A worker is ready if it is warm (this object is created after the warm-up), not draining, not
    paused after failures, `healthy`, and its consumer loop ran within IDLE_S. The controller counts
    ready workers as capacity. A ready worker without a message is idle, though attempts whose
    messages are acknowledged may still run (see stages.py). `holding` returns how many messages
    Celery has reserved.
    """

    def __init__(
        self,
        client: redis.Redis,
        pool: Pool,
        worker: str,
        *,
        holding: Callable[[], int],
        healthy: Callable[[], bool] = lambda: True,
        alive_file: Path | None = None,
    ):
        self._claims = Claims(client)
        self._pool = pool
        self._worker = worker
        self._holding = holding
        self._healthy = healthy
        self._alive_file = alive_file
        # Held while announcing and while a task starts. Otherwise an announcement could overtake a
        # Begin and list a busy worker as idle.
        self._lock = Lock()
        self._task_id: str | None = None  # of the running task
        self._served_lock = Lock()  # its own: nobody is to wait for an announcement
        self._served_jobs = self._served_ms = 0  # not yet reported to Redis
        self._draining = False
        self._loop_seen = -IDLE_S
        self._paused_until = 0.0
        self._pauses = 0
        self._failures: deque[float] = deque(maxlen=WORKER_FAILURES)
        self._kick = Event()
        self._entered = False
        self._shown_at = -ANNOUNCE_EVERY_S

    def start(self) -> None:
        Thread(target=self._run, name="presence", daemon=True).start()

    def seen(self) -> None:
        """The consumer loop runs. The loop itself calls this, so a stuck loop falls silent."""
        self._loop_seen = monotonic()
        if not self._entered:
            self._kick.set()

    def lost(self) -> None:
        """The consumer lost its broker connection: nothing can reach this worker."""
        self._loop_seen = monotonic() - IDLE_S

    def taken(self, task_id: str) -> None:
        """A task starts."""
        with self._lock:
            self._task_id = task_id

    def begun(self, token: str, job_id: UUID) -> None:
        """The attempt has begun in Postgres: remove the claim and the idle entry from Redis.

        Those who wait for the job are told to look now instead of at their next poll.
        """
        try:
            self._claims.begun(self._pool, self._worker, token, job_id)
        except redis.RedisError as error:
            log.warning("claim_not_removed", error=str(error))

    def done(self, task_id: str) -> None:
        """A message was acknowledged. If it is the running task's, the worker may take another."""
        with self._lock:
            if task_id == self._task_id:
                self._task_id = None
        self._kick.set()

    def served(self, ms: int) -> None:
        """An attempt left the GPU. `ms`: the time that it added to those before it."""
        with self._served_lock:
            self._served_jobs += 1
            self._served_ms += ms

    def wanted(self) -> bool:
        """Whether jobs wait while no worker of the pool is idle, as far as is known."""
        try:
            return self.ready and self._claims.wanted(self._pool)
        except redis.RedisError:
            return False

    def drain(self) -> None:
        """Take no more work."""
        self._draining = True
        self._kick.set()

    def look(self) -> None:
        """Announce anew, now: what makes the worker ready may have changed."""
        self._kick.set()

    def failed(self) -> None:
        """An attempt failed here. After several in a row this machine is suspect: pause."""
        now = monotonic()
        self._failures.append(now)
        if len(self._failures) < WORKER_FAILURES:
            return
        if now - self._failures[0] <= WORKER_FAILURE_WINDOW_S:
            pause_s = WORKER_PAUSE_S * 2 ** min(self._pauses, 4)
            self._pauses += 1
            self._paused_until = now + pause_s
            self._failures.clear()
            log.error("worker_paused", pause_s=pause_s)

    def succeeded(self) -> None:
        self._failures.clear()
        self._pauses = 0

    @property
    def ready(self) -> bool:
        now = monotonic()
        hears = now - self._loop_seen < IDLE_S
        return not self._draining and now >= self._paused_until and hears and self._healthy()

    @property
    def idle(self) -> bool:
        return self.ready and self._task_id is None and self._holding() == 0

    @property
    def state(self) -> str:
        """For the metrics: idle, busy, draining or unready. A busy worker may be draining."""
        if self._draining:
            return "draining"
        if not self.ready:
            return "unready"
        return "idle" if self.idle else "busy"

    def _run(self) -> None:
        while True:
            self._kick.clear()
            try:
                self._announce()
                self._show_alive()
            except redis.RedisError as error:
                self._entered = False
                log.warning("presence_not_announced", error=str(error))
            if self._alive_file is not None and monotonic() - self._loop_seen < IDLE_S:
                self._alive_file.touch()
            # Jitter, so that workers which started together do not announce together.
            self._kick.wait(ANNOUNCE_EVERY_S * random.uniform(0.8, 1.2))

    def _show_alive(self) -> None:
        """Once a second, ready or not: a draining worker must not be taken for a dead one."""
        now = monotonic()
        if now - self._shown_at >= 0.8 * ANNOUNCE_EVERY_S:
            self._claims.show_alive(self._pool, self._worker)
            self._shown_at = now

    def _announce(self) -> None:
        with self._lock:
            if self.ready:
                jobs, busy_ms = self._served_jobs, self._served_ms
                self._claims.announce(
                    self._pool,
                    self._worker,
                    idle=self.idle,
                    jobs=jobs,
                    busy_ms=busy_ms,
                    wake=True,
                )
                with self._served_lock:
                    self._served_jobs -= jobs
                    self._served_ms -= busy_ms
                self._entered = True
            elif self._entered:
                self._claims.withdraw(self._pool, self._worker)
                self._entered = False
