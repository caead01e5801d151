"""What the views need, built once per process. Connections are opened on first use."""

from collections.abc import Callable
from time import monotonic
from typing import TypeVar
from uuid import UUID

import redis
import structlog
from flask import current_app

from app import safety
from app.api.process.admission import Admission
from app.api.process.byte_budget import ByteBudget
from app.api.process.forecast import Forecaster
from app.api.process.gate import Gate
from app.api.process.hub import Hub
from app.api.process.key_cache import KeyCache
from app.api.process.overload import OverloadControl
from app.broker import progress
from app.broker.claims import Claims, PoolState
from app.broker.connections import JOB_OF, JOB_QUEUED, WEBHOOK_DUE, RegionRedis, send_wake
from app.config.settings import ConfigError, Settings
from app.domain.routing.topology import Pool
from app.objects import objects_for
from app.outbound import parse_allow
from app.pictures.normaliser import Normaliser
from app.public.links import Links
from app.store.clock import DatabaseClock
from app.store.job.records import JobRecord
from app.store.session import Store
from app.traffic import Traffic

log = structlog.get_logger(__name__)

T = TypeVar("T")

REDIS_REST_S = 1.0
PICTURE_BYTES = 64_000_000  # of pictures as they were sent, in memory at once


class Services:
    """Thread-safe. Raises ConfigError for settings that cannot work."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.topology = settings.topology
        self.store = Store.of(settings, pool_size=settings.database_pool_size)
        self.clock = DatabaseClock(self.store)
        self.objects = objects_for(settings, self.clock)
        self.keys = KeyCache(self.store)
        try:
            self.allow = parse_allow(settings.outbound_allow)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.normaliser = Normaliser(settings.normaliser_processes)
        self.picture_memory = ByteBudget(max(PICTURE_BYTES, settings.max_upload_mb * 1_000_000))
        self.redis = RegionRedis(settings)
        self.traffic = Traffic(settings, self.store, self.redis, clock=self.clock)
        self.forecaster = Forecaster(self.store, self.topology, self.look)
        self.admission = Admission(settings, self.store, self.redis, self.traffic, self.forecaster)
        self.links = Links.of(settings, self.objects, self.clock)
        self.safety = safety.load(settings.safety_check)
        self.gate = Gate(settings.api_threads, settings.api_waiters, settings.api_receivers)
        self.overload = OverloadControl()
        self.hub = Hub(self.store, self.redis, self.clock)
        self._resting: dict[str, float] = {}

    def wake(self, profile: str | None = None) -> None:
        """Tell the dispatchers that a job waits, of this profile if given; they also poll."""
        message = JOB_QUEUED if profile is None else f"{JOB_OF}{profile}"
        self.hint(self.settings.region, lambda client: send_wake(client, message))

    def webhook_due(self) -> None:
        """Tell the dispatchers that a job has ended; they also poll."""
        self.hint(self.settings.region, lambda client: send_wake(client, WEBHOOK_DUE))

    def step(self, job: JobRecord) -> int | None:
        """The last step that the job's worker reported, if its region's Redis responds."""
        if job.region is None:
            return None
        return self.hint(job.region, lambda client: progress.read(client, job.id, job.fence))

    def look(self, pool: Pool) -> PoolState | None:
        """The workers that may take jobs, if the pool's Redis responds."""
        if pool.region in self.traffic.current().controls.drained:
            return PoolState(0, 0, 0, 0)
        return self.hint(pool.region, lambda client: Claims(client).look(pool))

    def changed(self, region: str, job_id: UUID) -> None:
        """Notify everyone waiting for a job that it changed; they also poll."""
        self.hint(region, lambda client: progress.changed(client, job_id))

    def ask_stop(self, region: str, job_id: UUID, fence: int) -> None:
        """Ask a worker to stop at its next step; it also reads the flag with its lease."""
        self.hint(region, lambda client: progress.ask_stop(client, job_id, fence))

    def hint(self, region: str, work: Callable[[redis.Redis], T]) -> T | None:
        """Do something that may be lost; None if it was.

        A Redis that fails is left alone for REDIS_REST_S, so that not every request waits for it.
        """
        url = self.redis.url(region)
        if monotonic() < self._resting.get(url, 0.0):
            return None
        try:
            return work(self.redis.of(region))
        except redis.RedisError as error:
            self._resting[url] = monotonic() + REDIS_REST_S
            log.warning("redis_skipped", region=region, error=str(error))
            return None

    def close(self) -> None:
        """Stop the picture processes and close every connection."""
        self.traffic.close()
        self.hub.close()
        self.normaliser.close()
        self.store.close()
        for client in self.redis.urls().values():
            client.close()


def get_services() -> Services:
    """The services of the running application."""
    services: Services = current_app.extensions["services"]
    return services
