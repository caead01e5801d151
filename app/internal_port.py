"""The internal port of every process: `/healthz`, `/readyz` and `/metrics`, without a key.

Its threads are its own, so no client of the service can keep an orchestrator or Prometheus waiting.
It listens on the loopback unless INTERNAL_HOST says otherwise; never expose it to the internet.
"""

import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from threading import BoundedSemaphore, Thread
from typing import Any, Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from app.config.settings import ConfigError, Settings
from stillmotion.errors import StillmotionError

REQUEST_S = 5.0  # for a request's head
MAX_THREADS = 16


@dataclass(frozen=True)
class Readiness:
    """Whether a process can work, and the state of each part that it needs ("ok", or a code)."""

    status: Literal["ok", "degraded", "unavailable"]
    parts: Mapping[str, str]


def readiness(
    needed: Mapping[str, Callable[[], object]],
    helpful: Mapping[str, Callable[[], object]] | None = None,
) -> Readiness:
    """Call every part's check, which raises if the part does not respond.

    Without a needed part a process is unavailable; without a helpful one it is degraded.
    """
    found = {name: _state(name, check) for name, check in needed.items()}
    more = {name: _state(name, check) for name, check in (helpful or {}).items()}
    parts = found | more
    if set(found.values()) - {"ok"}:
        return Readiness("unavailable", parts)
    return Readiness("degraded" if set(more.values()) - {"ok"} else "ok", parts)


def _state(name: str, check: Callable[[], object]) -> str:
    try:
        check()
    except StillmotionError as error:
        return error.code
    except Exception:
        return f"{name}_unavailable"
    return "ok"


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Checks:
    """What a process says about itself. `metrics`: those of its kind of process.

    A process that is not `alive` should be restarted; one that is not ready should get no work.
    """

    ready: Callable[[], Readiness]
    metrics: CollectorRegistry
    alive: Callable[[], bool] = _always


class Server(ThreadingMixIn, TCPServer):
    """Answers on a listening socket until `close`."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, checks: Checks):
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.checks = checks
        self._places = BoundedSemaphore(MAX_THREADS)

    def start(self) -> "Server":
        """Answer in a thread of its own."""
        Thread(target=self.serve_forever, name="internal-port", daemon=True).start()
        return self

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do nothing: the client has gone."""


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_S
    server: Server

    def do_GET(self) -> None:
        checks = self.server.checks
        match self.path.partition("?")[0]:
            case "/healthz":
                alive = checks.alive()
                status = "ok" if alive else "unavailable"
                self._send_json(200 if alive else 503, {"status": status})
            case "/readyz":
                found = checks.ready()
                body = {"status": found.status, "parts": dict(found.parts)}
                self._send_json(503 if found.status == "unavailable" else 200, body)
            case "/metrics":
                self._send(200, CONTENT_TYPE_LATEST, generate_latest(checks.metrics))
            case _:
                self._send_json(404, {"detail": "Here are /healthz, /readyz and /metrics."})

    do_HEAD = do_GET  # the name that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:
        """Do nothing: these requests are routine."""

    def _send_json(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def listen(config: Settings) -> socket.socket | None:
    """The internal port's listening socket; None if INTERNAL_PORT is 0. Raises ConfigError."""
    if not config.internal_port:
        return None
    address = config.internal_host, config.internal_port
    family = socket.AF_INET6 if ":" in config.internal_host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=64)
    except OSError as error:
        where = f"{config.internal_host}:{config.internal_port}"
        # `strerror` repeats the address.
        why = (
            error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        )
        raise ConfigError(f"INTERNAL_PORT: cannot listen on {where}: {why}.") from None


def start(config: Settings, checks: Checks) -> Server | None:
    """Serve the internal port, if there is one. Raises ConfigError."""
    listener = listen(config)
    return None if listener is None else Server(listener, checks).start()
