"""gunicorn's threaded worker, with clients kept out of its threads until there is work to do.

The loop of the main thread reads heads and lingers over closed connections, so neither half-sent
heads nor clients that stay after their response hold a thread. What gunicorn itself refuses is a
problem like every other error. Written for gunicorn 27; `tests/integration/api/test_http.py` holds
it to all of this.
"""

import contextlib
import errno
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from gunicorn.http import errors as http
from gunicorn.workers.gthread import TConn, ThreadWorker

from app import metrics
from app.api.models.problem import PROBLEM, Problem
from app.api.process.arrival import SEND_S, Arrival, Pace, TooSlow, Unreader
from app.config.settings import settings

log = structlog.get_logger(__name__)

HEAD_BYTES = 32 * 1024  # as nginx has it
IDLE_S = 30.0  # for a new connection's first byte
# After a response that closes: time and bytes for the client to stop sending and read it. Closing
# earlier would reset the connection, and the reset can overtake the response.
LINGER_S = 10.0
LINGER_BYTES = 128 * 1024 * 1024
STOPPING_S = 2.0  # for the same clients when the process stops
SWEEP_S = 0.5
SPARE = 16  # connections that are kept free by closing idle ones

# They are answered even if every other thread is busy.
CHECKS = (b"GET /healthz ", b"GET /readyz ", b"HEAD /healthz ", b"HEAD /readyz ")

# What gunicorn raises about a request: status, code, sentence.
_REFUSALS: tuple[tuple[type[Exception], int, str, str], ...] = (
    (http.LimitRequestLine, 414, "uri_too_long", "The request's target is too long."),
    (http.LimitRequestHeaders, 431, "headers_too_large", "The request's headers are too large."),
    (http.ExpectationFailed, 417, "expectation_failed", "Only `Expect: 100-continue` is known."),
    (
        http.UnsupportedTransferCoding,
        501,
        "transfer_coding_unknown",
        "The only transfer coding is `chunked`.",
    ),
    # These two are the application's fault, and subclasses of the client's.
    (http.InvalidResponseHeader, 500, "internal_error", "Internal error."),
    (http.InvalidResponseHeaderName, 500, "internal_error", "Internal error."),
    (http.ConfigurationProblem, 500, "internal_error", "Internal error."),
    (TooSlow, 408, "head_too_slow", "The request's head arrived too slowly."),
    (http.ParseException, 400, "bad_request", "The request cannot be read as HTTP."),
)


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no type hints
    """One client: what it has sent of its next request's head, and until when it may."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.head = bytearray()
        self.until = 0.0
        self.discarded = 0
        self.data_ready = True  # no thread has to wait for the head's first byte

    @property
    def head_ended(self) -> bool:
        """Whether the head is complete, or can never be read as one."""
        head = self.head
        bare = head.count(b"\n") != head.count(b"\r\n")
        return b"\r\n\r\n" in head or bare or len(head) > HEAD_BYTES

    def init(self) -> None:
        """Called by a thread before it parses the head."""
        super().init()
        self.sock.settimeout(SEND_S)
        if not isinstance(self.parser.unreader, Unreader):
            self.parser.unreader = Unreader(self.sock)
        self.parser.unreader.arrival = None
        self.parser.unreader.unread(bytes(self.head))
        too_long = len(self.head) > HEAD_BYTES and b"\r\n\r\n" not in self.head[:HEAD_BYTES]
        self.head.clear()
        if too_long:
            raise http.LimitRequestHeaders("the head")


class HttpWorker(ThreadWorker):  # type: ignore[misc]
    """See the module's text."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        config = settings()
        self._pace = Pace(config.body_stall_s, config.body_least_kb_s * 1000, config.body_total_s)
        self._head_s = config.body_stall_s  # from a request's first byte to the end of its head
        self._heads: dict[Connection, None] = {}  # connections whose next head is not here yet
        self._lingering: dict[Connection, None] = {}
        self._sweep_at = 0.0
        self._stop_at: float | None = None
        self._checks = ThreadPoolExecutor(2, thread_name_prefix="checks")

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """End with 78 (EX_CONFIG) if gunicorn is to serve TLS: its heads cannot be read here."""
        if cfg.is_ssl:
            print("app: TLS has to end in a proxy in front of gunicorn.", file=sys.stderr)
            sys.exit(78)
        super().check_config(cfg, log)

    def load_wsgi(self) -> None:
        super().load_wsgi()
        app: Callable[..., Iterable[bytes]] = self.wsgi  # type: ignore[has-type]

        def settled(environ: dict[str, Any], start_response: object) -> Iterable[bytes]:
            arrival: Arrival = environ["wsgi.input"].arrival
            response = app(environ, start_response)
            arrival.settle()  # the headers are sent with the first byte of the response
            return response

        self.wsgi = settled

    # Connections.

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, and its head if that is here already."""
        if self.nr_conns >= self.worker_connections - SPARE:
            self._make_room()
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        conn = Connection(self.cfg, sock, address, listener.getsockname())
        self._await_head(conn)

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """Begin to read the next head of a connection that was kept alive."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_head(conn)

    def enqueue_req(self, conn: Connection) -> None:
        """Hand a connection with a complete head to a thread."""
        pool = self._checks if conn.head.startswith(CHECKS) else self.tpool
        future = pool.submit(self.handle, conn)
        future.add_done_callback(
            lambda done: self.method_queue.defer(self.finish_request, conn, done)
        )

    def finish_request(self, conn: Connection, future: "Future[bool]") -> None:
        """Keep a connection for its next request, or begin to close it."""
        if future.cancelled() or future.exception() is not None or not future.result():
            self._linger(conn)
            return
        # The client may have sent its next request behind this one.
        more = conn.parser.unreader.take_buffered()
        if more:
            conn.sock.setblocking(False)
            conn.head += more
            self._await_head(conn)
        else:
            super().finish_request(conn, future)

    def murder_pending(self) -> None:
        """Close what has run out of time. The loop calls this after every event."""
        now = time.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_S
        if not self.alive and self._stop_at is None:
            self._stop_at = now + STOPPING_S
        latest = float("inf") if self._stop_at is None else self._stop_at
        for conn in [each for each in self._heads if min(each.until, latest) <= now]:
            self._forget(self._heads, conn)
            if conn.head:
                self._refuse(conn.sock, TooSlow())
            self._drop(conn)
        for conn in [each for each in self._lingering if min(each.until, latest) <= now]:
            self._forget(self._lingering, conn)
            self._drop(conn)

    # Heads.

    def _await_head(self, conn: Connection) -> None:
        conn.until = time.monotonic() + (self._head_s if conn.head else IDLE_S)
        if conn.head_ended:
            self.enqueue_req(conn)
        elif not self._read_head(conn):
            self._heads[conn] = None
            self.poller.register(
                conn.sock, selectors.EVENT_READ, partial(self._on_head_readable, conn)
            )

    def _on_head_readable(self, conn: Connection, _: socket.socket) -> None:
        self._read_head(conn, known=True)

    def _read_head(self, conn: Connection, *, known: bool = False) -> bool:
        """Read what is here. True: the loop need not wait for this connection any more."""
        try:
            data = conn.sock.recv(8192)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if data and not conn.head:
            conn.until = time.monotonic() + self._head_s
        conn.head += data
        if data and not conn.head_ended:
            return False
        if known:
            self._forget(self._heads, conn)
        if data:
            self.enqueue_req(conn)
        else:
            self._drop(conn)
        return True

    # The end of a connection.

    def _linger(self, conn: Connection) -> None:
        """Close our side, and throw away what the client still sends until it closes its own."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
            return
        conn.until = time.monotonic() + LINGER_S
        self._lingering[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._discard, conn))

    def _discard(self, conn: Connection, _: socket.socket) -> None:
        try:
            data = conn.sock.recv(64 * 1024)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        conn.discarded += len(data)
        if not data or conn.discarded > LINGER_BYTES:
            self._forget(self._lingering, conn)
            self._drop(conn)

    def _make_room(self) -> None:
        """Close the connection that has been of no use for the longest."""
        for waiting in (self._lingering, self._heads):
            if waiting:
                conn = next(iter(waiting))
                self._forget(waiting, conn)
                self._drop(conn)
                return
        if self.keepalived_conns:
            conn = self.keepalived_conns.popleft()
            self.poller.unregister(conn.sock)
            self._drop(conn)

    def _forget(self, known: dict[Connection, None], conn: Connection) -> None:
        del known[conn]
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)

    def _drop(self, conn: Connection) -> None:
        self.nr_conns -= 1
        conn.close()

    # Requests.

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """Answer a request whose head has been read. False: close the connection."""
        arrival = Arrival(conn.sock, req, self._pace)
        conn.parser.unreader.arrival = req.body.arrival = arrival
        try:
            return bool(super().handle_request(req, conn))
        except TimeoutError:
            return False  # the client does not read its response

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what could not be read, or what broke outside the application."""
        self._refuse(client, exc)

    def _refuse(self, client: socket.socket, error: Exception) -> None:
        found = next((each for each in _REFUSALS if isinstance(error, each[0])), None)
        _, status, code, detail = found or (Exception, 500, "internal_error", "Internal error.")
        request_id = uuid4()
        kind = type(error).__name__
        metrics.requests.labels("unreadable", "any", status).inc()
        if status == 500:
            log.error("request_broke", request_id=str(request_id), exc_info=error)
        else:
            log.info("request_unreadable", request_id=str(request_id), status=status, error=kind)
        title = HTTPStatus(status).phrase
        body = Problem(
            title=title,
            status=status,
            detail=detail,
            instance=f"urn:uuid:{request_id}",
            code=code,
            retryable=status == 408,
        ).to_json()
        head = (
            f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: {PROBLEM}\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\n"
            "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            client.sendall((head + body).encode())
