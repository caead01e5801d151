"""Puts a GPU worker together and runs it."""

import signal
import sys

from celery.signals import worker_shutting_down

from app import internal_port, telemetry, tracing
from app.broker.celery_app import make_celery, run_worker
from app.config.settings import ConfigError, settings
from app.domain.job.levels import SPEAKS
from app.internal_port import Checks
from app.store.startup import check_database
from app.telemetry import configure_logs
from stillmotion.errors import StillmotionError
from workers.gpu import notice, observation
from workers.gpu.tasks import register
from workers.gpu.worker import Worker, load_worker

EX_CONFIG = 78  # sysexits.h


def main() -> None:
    """Run the worker. Exits with 78 if it is misconfigured."""
    try:
        config = settings()
        configure_logs(config.log_level)
        check_database(config)  # before minutes of loading
        tracing.start(config, "stillmotion-gpu-worker")
        if config.drain_file is not None:
            notice.watch(config.drain_file)
        worker = load_worker(config)
        internal_port.start(config, Checks(ready=worker.ready, metrics=telemetry.GPU_WORKER))
    except (ConfigError, StillmotionError) as error:
        print(f"workers.gpu: {error}", file=sys.stderr)
        sys.exit(EX_CONFIG)
    app = make_celery(config, config.region)
    register(app, worker)
    observation.start(worker)
    worker_shutting_down.connect(lambda **_: drain(worker), weak=False)
    worker.presence.start()
    worker.health.start(worker.presence.look)
    # The pool is `threads` with one thread: the main thread keeps answering remote control and
    # broker heartbeats while that thread holds a message.
    queues = [pool.queue for pool in worker.pool.up_to(SPEAKS)]
    run_worker(app, worker.name, queues, threads=1, log_level=config.log_level)
    # Messages are acknowledged before their attempts have ended. Ctrl-C ends the process now.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    worker.stages.join()


def drain(worker: Worker) -> None:
    """Take no other job, and end when those that have begun are done."""
    worker.presence.drain()
    worker.stages.drain()
