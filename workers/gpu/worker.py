"""What a GPU worker process holds, and how it is put together at start-up."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import redis
import structlog
from celery.worker import state

from app import safety
from app.broker.celery_app import node_name
from app.broker.connections import RegionRedis
from app.config.settings import Settings
from app.domain.errors import StorageUnavailable
from app.domain.job.profiles import Profile
from app.domain.routing.topology import Pool
from app.internal_port import Readiness, readiness
from app.objects import Objects, objects_for
from app.safety import Safety
from app.store.session import Store
from workers.engines.base import Engine
from workers.engines.registry import load_engine
from workers.gpu.health import Health
from workers.gpu.presence import Presence
from workers.media import provenance

log = structlog.get_logger(__name__)

EX_SOFTWARE = 70  # sysexits.h


@dataclass(frozen=True)
class Worker:
    """Everything that outlives one attempt."""

    name: str
    pool: Pool
    profile: Profile
    settings: Settings
    store: Store
    objects: Objects
    client: redis.Redis
    engine: Engine
    credentials: provenance.Credentials | None
    presence: Presence
    health: Health
    on_stall: Callable[[str], None]
    safety: Safety | None = None

    def ready(self) -> Readiness:
        """Whether it can take jobs, for its internal port."""
        return readiness(
            {"database": self.store.check, "redis": self.client.ping, "storage": self._storage}
        )

    def _storage(self) -> None:
        if self.health.storage_lost:
            raise StorageUnavailable("An attempt could not read or store an object.")


def load_worker(config: Settings) -> Worker:
    """Load and warm up the profile, then connect. Raises StillmotionError, ConfigError."""
    # Connects on first use, but rejects an unknown region before minutes of loading.
    client = RegionRedis(config).of(config.region)
    profile = config.profiles[config.model_profile]
    engine = load_engine(profile, config)
    credentials = provenance.load(config, profile, engine.version)
    engine.warm_up()
    pool = Pool(config.region, profile.name)
    name = node_name(f"gpu-{config.region}")
    store = Store.of(config, pool_size=4)
    objects = objects_for(config)
    health = Health(store, objects, name)
    return Worker(
        name=name,
        pool=pool,
        profile=profile,
        settings=config,
        store=store,
        objects=objects,
        client=client,
        engine=engine,
        credentials=credentials,
        presence=Presence(
            client,
            pool,
            name,
            holding=lambda: len(state.reserved_requests),
            healthy=lambda: health.good,
            alive_file=config.ready_file,
        ),
        health=health,
        on_stall=exit_process,
        safety=safety.load(config.safety_check),
    )


def exit_process(reason: str) -> None:
    """End a worker that is stuck: its thread cannot be stopped. The supervisor restarts it."""
    log.critical("worker_exiting", reason=reason)
    logging.shutdown()
    os._exit(EX_SOFTWARE)
