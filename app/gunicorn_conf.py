"""gunicorn's settings: `gunicorn -c python:app.gunicorn_conf -b HOST:PORT app.wsgi:app`."""

import gc
import resource
import sys
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from app import internal_port, safety
from app.api.process.checks import checks_of
from app.api.process.memory import give_back_large_blocks
from app.config.settings import ConfigError, settings
from app.objects import objects_for
from app.outbound import parse_allow
from app.pictures.undumpable import hide_from_own_user
from app.store.startup import check_database
from app.telemetry import configure_logs

try:
    own = settings()
    # Read and open these first, so that a mistake in them is reported in one sentence.
    own.topology, objects_for(own), parse_allow(own.outbound_allow), safety.load(own.safety_check)
    check_database(own)
    # Here, not in a worker: while gunicorn replaces one worker by another, both answer on it.
    internal_listener = internal_port.listen(own)
except (ConfigError, ValueError) as error:
    print(f"app: {error}", file=sys.stderr)
    sys.exit(78)  # EX_CONFIG

# One process, because its counters are its own. Threads suffice: a submit mostly waits for the
# database and the picture process. Run more API processes to scale.
# A thread that waits for a job or for bytes sleeps (20 kB, 30 frames deep);
# app/api/process/gate.py keeps the number of working threads at API_THREADS.
# gunicorn creates threads as needed.
workers = 1
worker_class = "app.api.http_worker.HttpWorker"
threads = own.api_threads + own.api_waiters + own.api_receivers
worker_connections = 1000 + threads
# Each connection is a file; without one left, `accept` would fail. 200: everything else.
files, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
if files < worker_connections + 200:
    wanted = worker_connections + 200
    most = wanted if most_files == resource.RLIM_INFINITY else min(wanted, most_files)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most_files))

timeout = 60
graceful_timeout = 30
keepalive = 30  # seconds; longer than a client's pause between two polls
limit_request_line = 8190  # room to filter by any one label: 64 + 512 characters, all escaped
limit_request_fields = 64
# Nothing that a client sends may change a path, a scheme or an address. TRUSTED_PROXIES names the
# proxies that may.
forwarder_headers = ""
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
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
    """Use the application's log format from the first line on. Hide the environment's secrets."""
    configure_logs(own.log_level)
    hide_from_own_user()


def post_worker_init(worker: Any) -> None:
    """Serve the internal port, let streams notice when the worker stops, and keep imported objects
    out of garbage collection: they never become garbage.
    """
    services = worker.app.wsgi().extensions["services"]
    services.hub.alive = lambda: worker.alive
    if internal_listener is not None:
        internal_port.Server(internal_listener, checks_of(services)).start()
    give_back_large_blocks()
    gc.collect()
    gc.freeze()


def worker_exit(server: object, worker: Any) -> None:
    """Stop the picture processes."""
    if getattr(worker, "wsgi", None) is not None:
        worker.app.wsgi().extensions["services"].close()
