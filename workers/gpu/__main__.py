"""The GPU worker: `python -m workers.gpu`. One process per GPU, one job at a time.

Celery's pool is `threads` with one thread: the main thread keeps answering remote control and
broker heartbeats while the thread renders.
"""

import logging
import os
import sys
from contextlib import suppress
from types import SimpleNamespace
from uuid import UUID

import structlog
from celery import Celery, Task, bootsteps
from celery.exceptions import Reject
from celery.signals import worker_shutting_down
from celery.worker import state
from celery.worker.request import Request
from prometheus_client import start_http_server
from structlog.contextvars import bound_contextvars

from app import safety
from app.broker.celery_app import make_celery, node_name, run_worker
from app.broker.connections import RegionRedis
from app.config.settings import ConfigError, Settings, settings
from app.domain.errors import DatabaseUnavailable
from app.domain.job.messages import RENDER
from app.domain.job.profiles import PROFILES
from app.domain.routing.topology import Pool
from app.objects import objects_for
from app.store.session import Store
from app.telemetry import configure_logs
from stillmotion.errors import StillmotionError
from workers.engines.base import load_engine
from workers.gpu import attempt
from workers.gpu.health import Health
from workers.gpu.presence import Presence
from workers.media import provenance

log = structlog.get_logger(__name__)

LOOP_BEAT_S = 0.5
EVENTS_EVERY_S = 0.25  # for people who look at Flower
EX_CONFIG, EX_SOFTWARE = 78, 70  # sysexits.h


def build_worker(config: Settings) -> attempt.Worker:
    """Load and warm the profile, then connect. Raises StillmotionError, ConfigError."""
    client = RegionRedis(config).of(config.region)  # connects later; a wrong region is told now
    profile = PROFILES[config.model_profile]
    engine = load_engine(
        profile,
        model_dir=config.model_dir,
        dtype=config.model_dtype,
        graph=config.model_graph,
        noop_step_s=config.noop_step_s,
        noop_warm_up_s=config.noop_warm_up_s,
    )
    credentials = provenance.load(config, profile, engine.version)
    engine.warm_up()
    pool = Pool(config.region, profile.name)
    name = node_name(f"gpu-{config.region}")
    store = Store(config.sqlalchemy_url, pool_size=4, timeout_s=config.database_timeout_s)
    objects = objects_for(config)
    health = Health(store, objects, name)
    return attempt.Worker(
        name=name,
        pool=pool,
        profile=profile,
        settings=config,
        store=store,
        objects=objects,
        health=health,
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
        on_stall=end_process,
        safety=safety.load(config.safety_check),
    )


def end_process(reason: str) -> None:
    """Stuck code cannot be stopped from within; the supervisor starts a fresh process."""
    log.critical("worker ends itself", reason=reason)
    logging.shutdown()
    os._exit(EX_SOFTWARE)


def register(app: Celery, worker: attempt.Worker) -> None:
    """Give a Celery app the render task and the hooks that keep `worker.presence` true."""
    presence = worker.presence

    class RenderRequest(Request):
        """Turns the worker idle only after the message is acknowledged, or handed back.

        Celery replaces `on_success` in a subclass of its own; these two it calls.
        """

        def acknowledge(self) -> None:
            try:
                super().acknowledge()
            finally:
                presence.done(self.id)

        def reject(self, requeue: bool = False) -> None:
            try:
                super().reject(requeue=requeue)
            finally:
                presence.done(self.id)

    class RenderTask(Task):
        Request = RenderRequest

    @app.task(base=RenderTask, name=RENDER, bind=True)
    def render(task: Task, job_id: str, fence: int) -> None:
        with bound_contextvars(job_id=job_id, fence=fence, worker=worker.name):
            presence.taken(task.request.id)
            try:
                attempt.run(worker, UUID(job_id), fence)
            except DatabaseUnavailable as error:
                # Not begun: somebody else may try. Begun and not reported: the fence makes the
                # second delivery a stale one.
                raise Reject(str(error), requeue=True) from error

    class LoopBeat(bootsteps.StartStopStep):
        """Shows that the consumer loop runs: the loop itself calls `seen`."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: SimpleNamespace) -> None:
            presence.seen()
            consumer.timer.call_repeatedly(LOOP_BEAT_S, presence.seen)
            # Each event published by itself was a third of the worker's time around short jobs.
            events = consumer.event_dispatcher
            events.on_send_buffered = None
            consumer.timer.call_repeatedly(EVENTS_EVERY_S, events.flush)

        def stop(self, consumer: SimpleNamespace) -> None:
            presence.lost()
            with suppress(*consumer.connection_errors):
                consumer.event_dispatcher.flush()

    app.steps["consumer"].add(LoopBeat)


def main() -> None:
    """Start the worker; ends with 78 when it is configured wrongly."""
    try:
        config = settings()
        configure_logs(config.log_level)
        worker = build_worker(config)
    except (ConfigError, StillmotionError) as error:
        print(f"workers.gpu: {error}", file=sys.stderr)
        sys.exit(EX_CONFIG)
    if config.metrics_port:
        start_http_server(config.metrics_port)
    app = make_celery(config, config.region)
    register(app, worker)
    worker_shutting_down.connect(lambda **_: worker.presence.drain(), weak=False)
    worker.presence.start()
    worker.health.start(worker.presence.look)
    run_worker(app, worker.name, [worker.pool.queue], threads=1, log_level=config.log_level)


if __name__ == "__main__":
    main()
