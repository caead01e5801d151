"""What a GPU worker process holds, and how it is put together at start-up."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field

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
from app.domain.worker_phase import WorkerPhase
from app.internal_port import Readiness, readiness
from app.objects import Objects, objects_for
from app.safety import Safety
from app.store.session import Store
from workers.engines import phases
from workers.engines.base import AnyEngine
from workers.engines.registry import load_engine
from workers.gpu.health import Health
from workers.gpu.presence import Presence
from workers.gpu.running import Running
from workers.gpu.setup import SetupReport
from workers.gpu.stages import Stages
from workers.media import provenance

log = structlog.get_logger(__name__)

EX_SOFTWARE = 70  # sysexits.h
DATABASE_CONNECTIONS = 6  # five attempts and the health check


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
    engine: AnyEngine
    credentials: provenance.Credentials | None
    presence: Presence
    health: Health
    stages: Stages
    on_stall: Callable[[str], None]
    safety: Safety | None = None
    running: Running = field(default_factory=Running)

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
    name = node_name(f"gpu-{config.region}")
    report = SetupReport(client, config.region, name, profile.name)
    with report.during():
        return _set_up(config, client, profile, name)


def _set_up(config: Settings, client: redis.Redis, profile: Profile, name: str) -> Worker:
    engine = load_engine(profile, config)
    credentials = provenance.load(config, profile, engine.version)
    pool = Pool(config.region, profile.name)
    store = Store.of(config, pool_size=DATABASE_CONNECTIONS)
    objects = objects_for(config)
    health = Health(store, objects, name)
    presence = Presence(
        client,
        pool,
        name,
        holding=lambda: len(state.reserved_requests),
        healthy=lambda: health.good,
        alive_file=config.ready_file,
    )
    stages = Stages(clip_memory=config.clip_memory_mb * 2**20, served=presence.served)
    phases.enter(WorkerPhase.WARMING)
    stages.on_gpu(engine.warm_up)
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
        presence=presence,
        health=health,
        stages=stages,
        on_stall=exit_process,
        safety=safety.load(config.safety_check),
    )


def exit_process(reason: str) -> None:
    """End a worker that is stuck: its thread cannot be stopped. The supervisor restarts it."""
    log.critical("worker_exiting", reason=reason)
    logging.shutdown()
    os._exit(EX_SOFTWARE)
