"""How a request's body arrives: how slowly it may, and who is told when it has to be waited for.

gunicorn reads heads, bodies and chunk framing through one object, its unreader. Ours asks the
request's Arrival for every byte, so nothing can be read from a client in any other way.
"""

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from gunicorn.http.errors import NoMoreData
from gunicorn.http.unreader import SocketUnreader

# A body that is here by then never needs a place of its own: most submits are.
AT_ONCE_S = 0.02
# For a client that does not read its response; each `send` starts anew.
SEND_S = 30.0
# What is left of a refused request's body is read, so that the connection can be used again...
DRAIN_BYTES = 64 * 1024
DRAIN_S = 1.0  # ...but not for longer
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class TooSlow(Exception):
    """The rest of a request did not arrive in time."""


@dataclass(frozen=True)
class Pace:
    """How slowly a body may arrive: times in seconds, `rate` in bytes per second.

    No pause may be longer than `stall_s`. Once `stall_s` are over, the mean rate must not be
    lower than `rate`. Everything must be here after `total_s`.
    """

    stall_s: float
    rate: float
    total_s: float

    def left_s(self, took_s: float, received: int) -> float:
        """Seconds until the next byte is overdue; negative if it already is."""
        return min(
            self.stall_s, self.stall_s + received / self.rate - took_s, self.total_s - took_s
        )


class Arrival:
    """One request's body on its way in. Not thread-safe: a request has one thread."""

    def __init__(self, sock: socket.socket, request: Any, pace: Pace):
        self._sock = sock
        self._request = request
        self._pace = pace
        self._began: float | None = None
        self._received = 0
        self._waiting = False
        self._deadline = float("inf")
        # gunicorn would send it before anybody has looked at the head.
        self._continue = request._expected_100_continue
        request._expected_100_continue = False
        # Called once, before the first wait that is worth one. What it raises ends the reading.
        self.on_wait: Callable[[], None] = _nothing

    @property
    def complete(self) -> bool:
        """Whether the whole body has been read from the socket."""
        body, reader = self._request.body, self._request.body.reader
        if body.failed:
            return False
        if hasattr(reader, "length"):  # Content-Length, or no body at all
            return bool(reader.length == 0)
        return reader.parser is None  # chunked

    def receive(self, size: int) -> bytes:
        """At least one and at most `size` of the next bytes.

        Raises TooSlow, and NoMoreData if the client has gone: gunicorn would take what it has for
        the whole body.
        """
        if self._began is None:
            self._began = monotonic()
            if self._continue:
                self._continue = False
                self._sock.sendall(CONTINUE)
        try:
            data = self._at_once(size)
            if data is None:
                data = self._sock.recv(size)
        except TimeoutError:
            raise TooSlow from None
        finally:
            self._sock.settimeout(SEND_S)
        if not data:
            raise NoMoreData
        self._received += len(data)
        return data

    def _at_once(self, size: int) -> bytes | None:
        """What arrives without a wait worth mentioning; else None, and the socket's timeout set."""
        assert self._began is not None
        took_s = monotonic() - self._began
        if not self._waiting:
            if took_s < AT_ONCE_S:
                self._sock.settimeout(AT_ONCE_S - took_s)
                with contextlib.suppress(TimeoutError):
                    return self._sock.recv(size)
            self._waiting = True
            self.on_wait()
            took_s = monotonic() - self._began
        left_s = min(self._pace.left_s(took_s, self._received), self._deadline - monotonic())
        if left_s <= 0:
            raise TooSlow
        self._sock.settimeout(left_s)
        return None

    def settle(self) -> None:
        """Before the response is sent: read the rest of the body, or have the connection closed.

        A client with a pool sends its next request on this connection if the response does not
        say that it closes (RFC 9112, 9.6).
        """
        if not self.complete:
            self._drain()
        if not self.complete:
            self._request.force_close()

    def _drain(self) -> None:
        body = self._request.body
        too_long = getattr(body.reader, "length", 0) > DRAIN_BYTES
        # A client that was not told to continue may or may not send its body.
        if too_long or self._continue or body.failed:
            return
        self.on_wait = _nothing
        self._deadline = monotonic() + DRAIN_S
        left = DRAIN_BYTES
        # Whatever goes wrong here: the connection closes.
        with contextlib.suppress(Exception):
            while left > 0 and (data := body.read(min(left, 8192))):
                left -= len(data)


class Unreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no type hints
    """Reads a connection's socket at the pace of the current request's Arrival.

    Heads are complete before they are parsed; `unread` puts them here.
    """

    def __init__(self, sock: socket.socket):
        super().__init__(sock)
        self.arrival: Arrival | None = None

    def chunk(self, size_hint: int | None = None) -> bytes:
        if self.arrival is None:
            raise NoMoreData
        size: int = self.mxchunk
        if size_hint and size_hint > size:
            size = min(size_hint, self.max_body_chunk)
        return self.arrival.receive(size)


def _nothing() -> None:
    pass
