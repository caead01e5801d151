"""Watches the jobs that requests wait for, in one place per process.

Two kinds of threads serve any number of waiting requests. One thread per Redis subscribes to the
channels of the followed jobs. One more polls their rows in Postgres, all in one statement: at once
after a hint, and every POLL_S because hints may be lost. The threads start with the first request
that waits.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Event, Lock, Thread
from typing import Any
from uuid import UUID

import redis
import structlog

from app.broker import progress
from app.broker.connections import RegionRedis
from app.broker.progress import Step
from app.domain.errors import DatabaseUnavailable
from app.store.job import jobs
from app.store.job.records import JobRecord, JobVersion
from app.store.session import Store
from stillmotion.states import JobState

log = structlog.get_logger(__name__)

POLL_S = 0.25
GAP_S = 0.01  # between two polls, however many hints arrive
LISTEN_S = 1.0
REDIS_PAUSE_S = 1.0
CLOSE_S = 1.0


class Followed:
    """The known state of a job that some request waits for. `version` grows with every change."""

    def __init__(self, row: JobRecord):
        self.id: UUID = row.id
        self.state, self.fence = JobState(row.state), row.fence
        self.region: str = _region(row)
        self.step = Step(row.fence, row.step, 0.0)
        self.version = 0
        self.followers = 0
        # Its place in the queue; one follower works it out under `lock` for all.
        self.queue: dict[str, Any] | None = None
        self.queue_until = 0.0
        self.lock = Lock()
        self._news = Condition()

    def wait(self, version: int, timeout_s: float) -> int:
        """Return the current version once it differs from `version`, or when time is up."""
        with self._news:
            self._news.wait_for(lambda: self.version != version, timeout_s)
            return self.version

    def apply_row(self, row: JobVersion, at: float) -> None:
        """Take over what the job's row says, read at Unix time `at`."""
        state, fence = JobState(row.state), row.fence
        with self._news:
            if (state, fence) != (self.state, self.fence):
                self.state, self.fence = state, fence
                self._notify()
            if state is JobState.PROCESSING and (fence, row.step) > self.step[:2]:
                self.step = Step(fence, row.step, at)
                self._notify()
        self.region = _region(row)

    def apply_step(self, step: Step) -> bool:
        """Take over a worker's step. False: the row as last read lacks that attempt."""
        with self._news:
            if step[:2] > self.step[:2]:
                self.step = step
                self._notify()
            return (self.state, self.fence) == (JobState.PROCESSING, step.fence)

    def _notify(self) -> None:
        self.version += 1
        self._news.notify_all()


def _region(row: JobRecord | JobVersion) -> str:
    """The region whose Redis announces the job's changes."""
    return row.next_region if row.region is None or row.state == JobState.QUEUED else row.region


class Hub:
    """The followed jobs of one process."""

    def __init__(self, store: Store, regions: RegionRedis, clock: Callable[[], float]):
        self._store = store
        self._clock = clock
        self._regions = regions
        self._lock = Lock()
        self._jobs: dict[UUID, Followed] = {}
        self._hinted: set[UUID] = set()
        self._kick = Event()
        self._closed = Event()
        self._control = f"stillmotion:hub:{secrets.token_hex(8)}"
        self._threads: list[Thread] = []
        # gunicorn_conf replaces it: streams end when the server stops, and their clients reconnect.
        self.alive: Callable[[], bool] = lambda: True

    def follow(self, row: JobRecord) -> Followed:
        """Watch this job from now on. Every call needs its `leave`."""
        with self._lock:
            followed = self._jobs.get(row.id)
            if followed is None:
                followed = self._jobs[row.id] = Followed(row)
            followed.followers += 1
            self._start()
        self._hint(row.id)  # it may have changed since the row was read
        self._subscribe(followed.region)
        return followed

    def leave(self, followed: Followed) -> None:
        with self._lock:
            followed.followers -= 1
            if not followed.followers:
                self._jobs.pop(followed.id, None)

    def close(self) -> None:
        """Stop the threads. One that is stuck in a call is left behind."""
        self._closed.set()
        self._kick.set()
        for client in self._regions.urls().values() if self._threads else ():
            with suppress(redis.RedisError):
                client.publish(self._control, "")
        for thread in self._threads:
            thread.join(CLOSE_S)

    def _hint(self, job_id: UUID) -> None:
        with self._lock:
            self._hinted.add(job_id)
        self._kick.set()

    def _start(self) -> None:
        if self._threads:
            return
        self._threads.append(Thread(target=self._poll_forever, name="hub-rows", daemon=True))
        self._threads += [
            Thread(target=self._listen, args=each, name="hub-steps", daemon=True)
            for each in self._regions.urls().items()
        ]
        for thread in self._threads:
            thread.start()

    def _subscribe(self, region: str) -> None:
        """Wake the thread that listens to this region's Redis, because its channels changed."""
        with suppress(redis.RedisError):
            self._regions.of(region).publish(self._control, "")

    def _poll_forever(self) -> None:
        every_at = 0.0
        while not self._closed.is_set():
            now = time.monotonic()
            with self._lock:
                everyone = now >= every_at
                hinted, self._hinted = self._hinted, set()
                ids = list(self._jobs) if everyone else [one for one in hinted if one in self._jobs]
            if everyone:
                every_at = now + POLL_S
            if ids:
                self._poll(ids)
            time.sleep(GAP_S)
            self._kick.wait(max(0.0, every_at - time.monotonic()) if self._jobs else None)
            self._kick.clear()

    def _poll(self, ids: list[UUID]) -> None:
        try:
            with self._store.autocommit() as conn:
                rows = jobs.poll_versions(conn, ids)
        except DatabaseUnavailable as error:
            log.warning("followed_jobs_unread", error=error.detail)
            return
        for row in rows:
            followed = self._jobs.get(row.id)
            if followed is None:
                continue
            before = followed.region
            followed.apply_row(row, self._clock())
            if followed.region != before:
                self._subscribe(followed.region)

    def _listen(self, url: str, client: redis.Redis) -> None:
        """Receive the messages of the followed jobs in this Redis's regions."""
        while not self._closed.is_set():
            try:
                with client.pubsub(ignore_subscribe_messages=True) as channels:  # type: ignore[no-untyped-call]
                    channels.subscribe(self._control)
                    has: set[str] = set()
                    while not self._closed.is_set():
                        wants = self._channels(url)
                        if wants - has:
                            channels.subscribe(*(wants - has))
                        if has - wants:
                            channels.unsubscribe(*(has - wants))
                        has = wants
                        self._receive(channels)
            except redis.RedisError as error:
                log.warning("progress_channel_lost", error=str(error))
                self._closed.wait(REDIS_PAUSE_S)

    def _channels(self, url: str) -> set[str]:
        with self._lock:
            return {
                progress.channel(followed.id)
                for followed in self._jobs.values()
                if self._regions.url(followed.region) == url
            }

    def _receive(self, channels: redis.client.PubSub) -> None:
        """Handle messages for LISTEN_S, or until one says that the wanted channels changed."""
        until = time.monotonic() + LISTEN_S
        while (left_s := until - time.monotonic()) > 0:
            message = channels.get_message(timeout=left_s)
            if message is None:
                continue  # a reply to subscribing is None too
            if message["channel"] == self._control:
                return
            job_id = UUID(message["channel"].rpartition(":")[2])
            step = progress.heard(message["data"])
            followed = self._jobs.get(job_id)
            if followed is not None and (step is None or not followed.apply_step(step)):
                self._hint(job_id)
