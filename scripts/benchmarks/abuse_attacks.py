"""Clients that mean harm. Each attack is a context manager: it runs while the block does."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from scripts.benchmarks.client import BOUNDARY, Client, form

DRIP_S = 8.0  # between two bytes: just below the ten seconds after which a silent client is cut off
PAUSE_S = 0.05  # before an attacker whom the service refused tries again
ANSWER_S = 120.0


class Attack:
    """Threads that repeat their work until `stop()`; errors are expected and ignored."""

    def __init__(self, works: Sequence[Callable[[], object]]):
        self.stopping = threading.Event()
        self.rounds = 0  # how often any of them has finished its work
        self._threads = [
            threading.Thread(target=self._run, args=(work,), daemon=True) for work in works
        ]

    def __enter__(self) -> "Attack":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()

    def _run(self, work: Callable[[], object]) -> None:
        while not self.stopping.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException, RuntimeError):
                work()
            self.rounds += 1
            self.stopping.wait(PAUSE_S)


def slow_bodies(url: str, key: str, *, each: int = 8) -> Attack:
    """`each` sign-ins without a key and `each` pictures with one, a byte every DRIP_S."""
    address = _address(url)
    sign_in = (
        "POST /v1/session HTTP/1.1\r\nHost: stillmotion\r\nContent-Type: application/json\r\n"
        "Content-Length: 60\r\n\r\n"
    )
    picture = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: stillmotion\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(form())}\r\n\r\n"
    )

    def drip(head: str, body: bytes) -> None:
        with socket.create_connection(address, timeout=ANSWER_S) as connection:
            connection.sendall(head.encode() + body[:1])
            for n in range(1, len(body)):
                if attack.stopping.wait(DRIP_S):
                    return
                connection.sendall(body[n : n + 1])

    works = [lambda: drip(sign_in, b"{" + b" " * 59)] * each
    works += [lambda: drip(picture, form())] * each
    attack = Attack(works)
    return attack


def slow_urls(url: str, key: str, source: str, *, count: int = 16) -> Attack:
    """Submits whose picture is at `source`, an address of `dripping()`."""

    def submit() -> None:
        _post_json(url, key, json.dumps({"image": source}).encode())

    return Attack([submit] * count)


def json_bombs(url: str, key: str, body: bytes, *, count: int) -> Attack:
    """The same JSON again and again, on `count` connections."""
    return Attack([lambda: _post_json(url, key, body)] * count)


def decoder_hog(url: str, key: str, picture: bytes, *, count: int = 2) -> Attack:
    """The same picture again and again, on `count` connections."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    body = head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()

    def submit() -> None:
        Client(url, key, timeout_s=ANSWER_S).request("POST", "/v1/jobs", body)

    return Attack([submit] * count)


def hanging_webhooks(url: str, key: str, receivers: Sequence[str]) -> Attack:
    """An endpoint at each of `receivers`, and a job of that owner every quarter of a second."""
    client = Client(url, key)
    for receiver in receivers:
        _post_json(url, key, json.dumps({"url": receiver}).encode(), "/v1/webhooks")

    def submit() -> None:
        client.submit(frames="8")
        time.sleep(0.25)

    return Attack([submit])


def unknown_fields(count: int | None = None, size_bytes: int = 0) -> bytes:
    """A JSON object of `count` unknown fields, or of as many as fit into `size_bytes`."""
    if count is None:
        count = size_bytes // 13
    return b"{" + b",".join(b'"f%07d":0' % n for n in range(count)) + b"}"


def data_uri(size_bytes: int) -> bytes:
    """A submit whose picture is a data URI of this size, and no picture."""
    return b'{"image":"data:image/jpeg;base64,' + b"A" * (size_bytes // 4 * 4) + b'"}'


@contextlib.contextmanager
def dripping() -> Iterator[str]:
    """The address of a server that promises a picture and sends a byte a second."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "image/jpeg")
            self.send_header("content-length", "1000000")
            self.end_headers()
            with contextlib.suppress(OSError):
                while not ended.wait(1.0):
                    self.wfile.write(b"\xff")

        def log_message(self, *args: object) -> None:
            pass

    ended = threading.Event()
    with _serving(Handler) as address:
        yield f"http://{address}/photo.jpg"
        ended.set()


@contextlib.contextmanager
def hanging(count: int) -> Iterator[list[str]]:
    """Addresses, each with a port of its own, that accept connections and never answer."""
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=128) for _ in range(count)]
    try:
        yield [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


@contextlib.contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _post_json(url: str, key: str, body: bytes, path: str = "/v1/jobs") -> int:
    """The response's status."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_S)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 80)
