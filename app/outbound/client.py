"""Requests to URLs that strangers chose, to vetted addresses only.

The host is resolved once, every address is vetted, and the connection goes to a vetted address,
while Host header, SNI and certificate check use the name. So a DNS answer that changes between
check and use has no effect. Redirects are not followed, proxies from the environment are ignored,
and one deadline covers the whole exchange.
"""

import contextlib
import functools
import http
import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import certifi

from app.outbound.guard import Allow, Target, is_public, not_exempt, refusal, target_of

EXCERPT_BYTES = 4096
MAX_INTERIM = 64  # responses before the final one
USER_AGENT = "stillmotion"


@dataclass(frozen=True)
class Response:
    """The response of a webhook receiver. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body_excerpt: bytes


def resolve(host: str, port: int) -> list[str]:
    """Return the host's addresses in the system resolver's order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@functools.cache
def system_tls() -> ssl.SSLContext:
    """Return a verifying context with the system's authorities, or certifi's if it has none."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or paths.capath):
        context.load_verify_locations(certifi.where())
    return context


@dataclass(frozen=True)
class Network:
    """What a request needs from the machine. Tests supply their own resolver and authority."""

    resolve: Callable[[str, int], Sequence[str]] = resolve
    connect: Callable[[tuple[str, int], float], socket.socket] = socket.create_connection
    tls: Callable[[], ssl.SSLContext] = system_tls


SYSTEM = Network()


def fetch(
    url: str,
    *,
    max_bytes: int,
    timeout_s: float,
    allow: Allow = frozenset(),
    network: Network = SYSTEM,
) -> bytes:
    """Return the body of a GET; only status 200 counts.

    `timeout_s` covers everything from the DNS look-up to the last byte.

    Raises:
        BadRequest: url_not_allowed, url_unreachable, url_timeout, url_redirects,
            url_bad_status or url_too_large.
    """
    with _exchange(url, "GET", b"", {}, max_bytes, timeout_s, allow, network) as (answer, _):
        if 300 <= answer.status < 400:
            raise refusal("url_redirects", "The URL redirects; use the URL it redirects to.")
        if answer.status != 200:
            raise refusal("url_bad_status", f"The URL answered with status {answer.status}.")
        if (answer.length or 0) > max_bytes:
            raise _TooMuch
        body = answer.read(max_bytes + 1)
        if len(body) > max_bytes:
            raise _TooMuch
        if answer.length:
            raise refusal("url_unreachable", "The URL's server closed the connection early.")
        return body


def post(
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    timeout_s: float,
    allow: Allow = frozenset(),
    network: Network = SYSTEM,
) -> Response:
    """Send `body` and return the response, whatever its status. Redirects are not followed.

    `timeout_s` covers everything from the DNS look-up to the status line. The start of the
    response's body is kept if it arrives within a second after that.

    Raises:
        BadRequest: url_not_allowed, url_unreachable or url_timeout.
    """
    with _exchange(url, "POST", body, headers, EXCERPT_BYTES, timeout_s, allow, network) as (
        answer,
        channel,
    ):
        channel.deadline = min(channel.deadline, time.monotonic() + 1)
        excerpt = b""
        # The status alone decides the delivery; a bad body must not undo it.
        with contextlib.suppress(OSError, http.client.HTTPException, _TooMuch):
            while len(excerpt) < EXCERPT_BYTES and (
                part := answer.read1(EXCERPT_BYTES - len(excerpt))
            ):
                excerpt += part
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, names, excerpt)


@contextlib.contextmanager
def _exchange(
    url: str,
    method: str,
    body: bytes,
    headers: Mapping[str, str],
    max_bytes: int,
    timeout_s: float,
    allow: Allow,
    network: Network,
) -> Iterator[tuple[http.client.HTTPResponse, "_Channel"]]:
    """Send one request and yield the response with its body unread; map all errors."""
    target = target_of(url, allow)
    deadline = time.monotonic() + timeout_s
    try:
        with _connect(target, deadline, network) as sock:
            channel = _Channel(sock, deadline, max_bytes)
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.response_class = _FinalResponse
            connection.sock = channel
            connection.request(
                method,
                target.path,
                body or None,
                {
                    "Host": target.host_header,
                    "User-Agent": USER_AGENT,
                    "Connection": "close",
                    **headers,
                },
            )
            yield connection.getresponse(), channel
    except _TooMuch:
        raise refusal(
            "url_too_large", f"The URL's content is larger than {max_bytes} bytes."
        ) from None
    except TimeoutError:
        raise refusal("url_timeout", f"The URL did not answer within {timeout_s:g} s.") from None
    except ssl.SSLError:
        raise refusal(
            "url_unreachable", "The URL's server has no trusted certificate for its name."
        ) from None
    except (OSError, http.client.HTTPException, ValueError):
        # The messages name addresses and quote the server; strangers must see neither.
        raise refusal("url_unreachable", "The URL's server could not be reached.") from None


def _connect(target: Target, deadline: float, network: Network) -> socket.socket:
    """Return a connection to a vetted address, with TLS for the target's name."""
    addresses = _look_up(target, deadline, network)
    if not target.exempt and not all(is_public(address) for address in addresses):
        raise not_exempt("The URL must name a public host.")
    failure: OSError = OSError("the name has no address")
    for tried, address in enumerate(addresses):
        # A dead address must not use up the time of the ones after it.
        patience_s = _left(deadline) / (len(addresses) - tried)
        try:
            sock = network.connect((address, target.port), patience_s)
        except OSError as error:
            failure = error
            continue
        if not target.secure:
            return sock
        try:
            sock.settimeout(_left(deadline))  # covers the whole handshake
            return network.tls().wrap_socket(sock, server_hostname=target.host)
        except BaseException:
            sock.close()
            raise
    raise failure


def _look_up(target: Target, deadline: float, network: Network) -> Sequence[str]:
    """Resolve the name, once.

    The system's resolver has no deadline, so it runs in a thread that is abandoned when it is
    late. The thread ends within the resolver's own limit, usually half a minute.
    """
    answer: queue.SimpleQueue[Sequence[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(network.resolve(target.host, target.port))
        except (OSError, ValueError) as error:
            answer.put(OSError(str(error)))

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        found = answer.get(timeout=_left(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, OSError):
        raise found
    return found


class _FinalResponse(http.client.HTTPResponse):
    """Skips every interim response, as clients must (RFC 9110, 15.2); http.client only skips 100.

    101 is final: it answers a request to switch protocols, which ours never is.
    """

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many interim responses")


class _TooMuch(Exception):
    """The response exceeds the caller's limit."""


class _Channel(io.RawIOBase):
    """The socket that http.client uses, with one deadline and a byte budget.

    The budget also bounds what http.client leaves unbounded: endless headers, and a chunk of
    negative size, which it reads to the end of the stream.
    """

    def __init__(self, sock: socket.socket, deadline: float, max_bytes: int):
        self._sock = sock
        self.deadline = deadline
        # Allow for headers and chunk framing.
        self._budget = max_bytes + max_bytes // 8 + 128 * 1024

    def close(self) -> None:
        """Do nothing: http.client closes its socket before the body is read."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._budget <= 0:
            raise _TooMuch
        self._sock.settimeout(_left(self.deadline))
        count = self._sock.recv_into(buffer)
        self._budget -= count
        return count

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:  # with TLS, sendall restarts its own timeout for every record
            self._sock.settimeout(_left(self.deadline))
            view = view[self._sock.send(view[:65536]) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
