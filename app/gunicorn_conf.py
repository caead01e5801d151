"""gunicorn's settings: `gunicorn -c python:app.gunicorn_conf -b HOST:PORT app.wsgi:app`."""

import gc
import sys
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from app import safety
from app.api.process.memory import give_back_large_blocks
from app.config.settings import ConfigError, settings
from app.objects import objects_for
from app.outbound import parse_allow
from app.telemetry import configure_logs

try:
    own = settings()
    # Read and open these first, so that a mistake in them is reported in one sentence.
    own.topology, objects_for(own), parse_allow(own.outbound_allow), safety.load(own.safety_check)
except (ConfigError, ValueError) as error:
    print(f"app: {error}", file=sys.stderr)
    sys.exit(78)  # EX_CONFIG

# One process, because its counters are its own. Threads suffice: a submit mostly waits for the
# database and the picture process. Run more API processes to scale.
# A thread that waits for a job sleeps on a lock (20 kB, 30 frames deep);
# app/api/process/gate.py keeps the number of working threads at API_THREADS.
# gunicorn creates threads as needed.
workers = 1
worker_class = "gthread"
threads = own.api_threads + own.api_waiters
worker_connections = 1000 + threads

timeout = 60
graceful_timeout = 30
keepalive = 30  # seconds; longer than a client's pause between two polls
limit_request_line = 8190  # room to filter by any one label: 64 + 512 characters, all escaped
limit_request_fields = 64
if Path("/dev/shm").is_dir():
    worker_tmp_dir = (
        "/dev/shm"  # with the heartbeat on a slow disk, gunicorn would kill a healthy worker
    )
control_socket_disable = True


class ErrorsOnly(Logger):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's own log. The application logs each request, without its query."""

    def access(self, *_: object) -> None:
        """Do nothing: formatting a line that nobody writes cost 3 % of a request."""


logger_class = ErrorsOnly
accesslog = None
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": []},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True}},
}


def on_starting(server: object) -> None:
    """Use the application's log format from the first line on."""
    configure_logs(own.log_level)


def post_worker_init(worker: Any) -> None:
    """Let streams notice when the worker stops; keep imported objects out of garbage collection.

    They never become garbage.
    """
    worker.wsgi.extensions["services"].hub.alive = lambda: worker.alive
    give_back_large_blocks()
    gc.collect()
    gc.freeze()


def worker_exit(server: object, worker: object) -> None:
    """Stop the picture processes."""
    app = getattr(worker, "wsgi", None)
    if app is not None:
        app.extensions["services"].close()
