"""A webhook receiver that records what it receives and can fail on command."""

import json
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread

SILENT = 0  # as a status: never answer
SILENCE_S = 20.0  # longer than any sender waits


@dataclass(frozen=True)
class Received:
    message_id: str
    event: str  # "job.succeeded", ...
    job_id: str
    state: str  # of the job, according to the message
    status: int  # of the answer
    at: float  # when it came, in seconds since 1970


class WebhookLog:
    """An HTTP server on the loopback; `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 204
        self._received: list[Received] = []
        self._lock = Lock()
        self._closing = Event()
        log = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                at = time.time()
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = log.status
                log._add(body, self.headers["webhook-id"], status, at)
                if status == SILENT:
                    log._closing.wait(SILENCE_S)
                    return
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.address}/hook"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def received(self) -> list[Received]:
        with self._lock:
            return list(self._received)

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _add(self, body: dict[str, object], message_id: str, status: int, at: float) -> None:
        data = body["data"]
        job = data["job"] if isinstance(data, dict) else {}
        kind = str(body["type"])
        entry = Received(message_id, kind, job["id"], job["state"], status, at)
        with self._lock:
            self._received.append(entry)
