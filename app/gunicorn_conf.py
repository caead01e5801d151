"""gunicorn's settings: `gunicorn -c python:app.gunicorn_conf -b HOST:PORT app.wsgi:app`."""

import gc
import sys
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from app import safety
from app.config.settings import ConfigError, settings
from app.objects import objects_for
from app.outbound import parse_allow
from app.telemetry import configure_logs

try:
    own = settings()
    # Read and opened here first, so that what is wrong with them is one sentence.
    own.topology, objects_for(own), parse_allow(own.outbound_allow), safety.load(own.safety_check)
except (ConfigError, ValueError) as error:
    print(f"app: {error}", file=sys.stderr)
    sys.exit(78)  # EX_CONFIG

# One process: its counters are the process's own, and threads suffice, since waiting for the
# database and the picture process is most of a submit. Run more API processes to scale.
# A thread that waits for news of a job sleeps on a lock (20 kB, 30 frames deep);
# app/api/process/gate.py keeps the number of those that work at API_THREADS.
# gunicorn makes threads as they are needed.
workers = 1
worker_class = "gthread"
threads = own.api_threads + own.api_waiters
worker_connections = 1000 + threads

timeout = 60
graceful_timeout = 30
keepalive = 30  # seconds; longer than a client's pause between two polls
limit_request_line = 4094  # a signed URL has about 300
limit_request_fields = 64
if Path("/dev/shm").is_dir():
    worker_tmp_dir = "/dev/shm"  # a heartbeat on a slow disk would end a healthy worker
control_socket_disable = True


class ErrorsOnly(Logger):
    """gunicorn's own log. The application logs each request, without its query."""

    def access(self, *_: object) -> None:
        """Make no line: the one that nobody writes cost 3 % of a request."""


logger_class = ErrorsOnly
accesslog = None
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": []},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True}},
}


def on_starting(server: object) -> None:
    """Log as the application does, from the first line on."""
    configure_logs(own.log_level)


def post_worker_init(worker: Any) -> None:
    """Let streams see the end of the worker; keep imports out of the collector's rounds.

    What was imported never becomes garbage.
    """
    worker.wsgi.extensions["services"].hub.alive = lambda: worker.alive
    gc.collect()
    gc.freeze()


def worker_exit(server: object, worker: object) -> None:
    """Let the picture processes go."""
    app = getattr(worker, "wsgi", None)
    if app is not None:
        app.extensions["services"].close()
