"""Celery, used only to hand ids to an idle process.

No setting makes delivery exact, and none has to: the fence in Postgres decides. The settings bound
waits, keep exactly one message in a busy worker, and keep Celery from retrying, storing results or
delaying anything by itself.
"""

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from celery import Celery
from celery.apps import worker as celery_worker

from app.broker import amqp_transport, redis_transport
from app.config.settings import ConfigError, Settings, settings
from app.domain.job.messages import HOUSEKEEPING_QUEUE

EX_CONFIG = 78  # sysexits.h
REDIS_OPTIONS = {
    # The reaper recovers lost work within seconds; redelivery by the broker would only double
    # messages, so it comes long after every attempt limit. The two restore settings keep it from
    # also being 100 s late.
    "visibility_timeout": 3600,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    # Without these a half-open connection blocks a worker for ever.
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
AMQP_OPTIONS = {
    "confirm_publish": True,  # else a broker at its limits drops messages silently
    "connect_timeout": 5,
    "read_timeout": 10,
    "write_timeout": 10,
}


def make_celery(config: Settings, region: str | None = None) -> Celery:
    """The Celery app for a region's broker; None: this process's region. Connects later.

    Raises ConfigError.
    """
    redis_transport.install()
    amqp_transport.install()
    broker = config.broker_of(region or config.region)
    on_redis = broker.startswith("redis")
    app = Celery("stillmotion", broker=broker, set_as_current=False)
    app.conf.update(
        broker_transport_options=REDIS_OPTIONS if on_redis else AMQP_OPTIONS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=5,
        broker_heartbeat=30,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        task_publish_retry=False,  # a failed publish is undone by fence, at once
        # A message is taken within milliseconds of being sent; an event about it is useless.
        task_send_sent_event=False,
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_consumer="app.broker.consumer:Consumer",
        worker_enable_remote_control=True,
        # A dead broker connection must not cancel a render: the lease protects the job.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_default_queue=HOUSEKEEPING_QUEUE,
        task_create_missing_queues=True,
        task_create_missing_queue_type="classic" if on_redis else config.broker_queue_type,
        # Celery declares 28 of these next to quorum queues. Nothing here uses them, so keep them
        # cheap.
        broker_native_delayed_delivery_queue_type="classic",
        worker_proc_alive_timeout=120,
        timezone="UTC",
    )
    return app


def queue_name(app: Celery, queue: str) -> str:
    """A queue's name on the broker of `app`."""
    quorum = app.conf.task_create_missing_queue_type == "quorum"
    return f"{queue}.quorum" if quorum else queue


def node_name(kind: str) -> str:
    """A worker's name, unique per boot.

    RabbitMQ refuses a second worker of the same name while it still holds the connection of the
    first, and a zombie must not be taken for its successor.
    """
    return f"{kind}-{uuid4().hex[:8]}@{socket.gethostname()}"


def run_worker(
    app: Celery, name: str, queues: Sequence[str], *, threads: int, log_level: str
) -> None:
    """Consume until SIGTERM, in this process, as every worker of this service does."""
    # A closed terminal must not make Celery drop work that is under way.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    celery_worker.safe_say = _say
    # "Task received", "Task succeeded": our own lines say more, and name the job in a field.
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    app.worker_main(
        [
            "--quiet",  # no banner
            "worker",
            "--pool=threads",
            f"--concurrency={threads}",
            f"--queues={','.join(queue_name(app, queue) for queue in queues)}",
            f"--hostname={name}",
            "--without-gossip",
            "--without-mingle",
            "--task-events",
            f"--loglevel={log_level}",
        ]
    )


def _say(message: str, _stream: object = None) -> None:
    """What Celery tells a terminal, as a line of the log. Called by signal handlers, which may have
    interrupted a line, so it writes around the buffers.
    """
    line = {"event": message.strip(), "level": "info", "timestamp": f"{datetime.now(UTC):%FT%TZ}"}
    os.write(2, f"{json.dumps(line)}\n".encode())


def __getattr__(name: str) -> Celery:
    """`celery -A app.broker.celery_app` asks for `app`; importing this module reads nothing."""
    if name == "app":
        try:
            return make_celery(settings())
        except ConfigError as error:
            print(f"app.broker.celery_app: {error}", file=sys.stderr)
            sys.exit(EX_CONFIG)
    raise AttributeError(name)
