"""Requests to URLs chosen by strangers, guarded against server-side request forgery (SSRF).

API callers supply the URLs of pictures and webhooks; these must reach the public internet and
nothing else. The host is resolved once, every address is vetted, and the connection goes to a
vetted address, while Host header, SNI and certificate check use the name. So a DNS answer that
changes between check and use has no effect. Redirects are not followed, proxies from the
environment are ignored, and one deadline covers the whole exchange.

There is no off switch. `allow` exempts single host:port pairs from vetting.
"""

import contextlib
import functools
import http.client
import io
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import certifi
import idna

from app.domain.errors import BadRequest

PORTS = (443, 8443)
MAX_URL_CHARS = 2048
EXCERPT_BYTES = 4096
USER_AGENT = "stillmotion"

Allow = frozenset[tuple[str, int]]

# In IPv6, global unicast is a single block: everything outside it (loopback, link-local, private,
# multicast, mapped IPv4, NAT64's 64:ff9b::/96) is refused, and special ranges inside it are listed.
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_SPECIAL = tuple(
    ipaddress.ip_network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and some clouds' metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host: a public address that answers from inside
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",
    )
)


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


def parse_allow(text: str) -> Allow:
    """Read the setting OUTBOUND_ALLOW, "host:port,host:port"; IPv6 as "[::1]:8080".

    Raises:
        ValueError: an entry is not host:port.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    return frozenset(_parse_allow_entry(entry) for entry in entries)


def _parse_allow_entry(entry: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{entry}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != entry or "@" in entry:
        raise ValueError(f"{entry!r} is not host:port")
    return _ascii_host(host), port


def vet_url(url: str, allow: Allow = frozenset()) -> str:
    """Check a URL without resolving its host, for URLs that are used later.

    Returns it with scheme, host and port in their one canonical spelling (RFC 3986, section 6.2),
    so that `:443`, `:0443`, a trailing dot, upper case and the forms of an international name do
    not count as so many receivers. Path and query stay as they are.

    Raises:
        BadRequest: url_not_allowed.
    """
    target = _target(url, allow)
    scheme = "https" if target.secure else "http"
    canonical = urlsplit(url)._replace(scheme=scheme, netloc=target.host_header).geturl()
    if len(canonical) > MAX_URL_CHARS:  # punycode is longer
        raise _refusal("url_not_allowed", f"The URL is longer than {MAX_URL_CHARS} characters.")
    return canonical


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
            raise _refusal("url_redirects", "The URL redirects; use the URL it redirects to.")
        if answer.status != 200:
            raise _refusal("url_bad_status", f"The URL answered with status {answer.status}.")
        if (answer.length or 0) > max_bytes:
            raise _TooMuch
        body = answer.read(max_bytes + 1)
        if len(body) > max_bytes:
            raise _TooMuch
        if answer.length:
            raise _refusal("url_unreachable", "The URL's server closed the connection early.")
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


def is_public(address: str) -> bool:
    """Whether an address, as the resolver spells it, belongs to the public internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.version == 6 and ip not in _GLOBAL_V6:
        return False
    return not any(ip in block for block in _SPECIAL)


@dataclass(frozen=True)
class _Target:
    secure: bool
    host: str  # ASCII, lower case, no trailing dot, no brackets
    port: int
    path: str
    exempt: bool  # on the allow list: address and scheme are not vetted

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


_NAME = re.compile(r"(?=.{4,253}$)([a-z0-9_-]{1,63}\.)+[a-z0-9-]{1,63}")
# Includes 127.1, 0x7f.1, 2130706433 and the like: no top-level domain is a number.
_LITERAL = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")


def _target(url: str, allow: Allow) -> _Target:
    if len(url) > MAX_URL_CHARS:
        raise _refusal("url_not_allowed", f"The URL is longer than {MAX_URL_CHARS} characters.")
    # urlsplit drops some of these, and browsers read a backslash as a slash. Refuse to guess.
    if not url.isprintable() or " " in url or "\\" in url:
        raise _refusal("url_not_allowed", "The URL has a space, backslash or control character.")
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host = _ascii_host(parts.hostname or "")
        port = parts.port if parts.port is not None else (443 if secure else 80)
    except ValueError:
        raise _refusal("url_not_allowed", "The URL is not valid.") from None
    if parts.scheme not in ("https", "http") or not host:
        raise _refusal("url_not_allowed", "The URL must begin with https:// and name a host.")
    if "@" in parts.netloc:
        raise _refusal("url_not_allowed", "The URL must not contain a user name or password.")
    exempt = (host, port) in allow
    if not exempt:
        if not secure:
            raise _refusal("url_not_allowed", "The URL must begin with https://.")
        if port not in PORTS:
            raise _refusal("url_not_allowed", "The URL's port must be 443 or 8443.")
        if "[" in parts.netloc or _LITERAL.fullmatch(host) or not _NAME.fullmatch(host):
            raise _refusal("url_not_allowed", "The URL must name a public host, not an address.")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = f"?{quote(parts.query, safe=_QUERY_SAFE)}" if parts.query else ""
    return _Target(secure, host, port, path + query, exempt)


_QUERY_SAFE = "/%:@!$&'()*+,;=~?[]"


def _ascii_host(host: str) -> str:
    """Return the host as the DNS spells it: ASCII, lower case, no trailing dot."""
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()  # IDNAError is a ValueError
    return host.lower().removesuffix(".")


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
    target = _target(url, allow)
    deadline = time.monotonic() + timeout_s
    try:
        with _connect(target, deadline, network) as sock:
            channel = _Channel(sock, deadline, max_bytes)
            connection = http.client.HTTPConnection(target.host, target.port)
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
        raise _refusal(
            "url_too_large", f"The URL's content is larger than {max_bytes} bytes."
        ) from None
    except TimeoutError:
        raise _refusal("url_timeout", f"The URL did not answer within {timeout_s:g} s.") from None
    except ssl.SSLError:
        raise _refusal(
            "url_unreachable", "The URL's server has no trusted certificate for its name."
        ) from None
    except (OSError, http.client.HTTPException, ValueError):
        # The messages name addresses and quote the server; strangers must see neither.
        raise _refusal("url_unreachable", "The URL's server could not be reached.") from None


def _connect(target: _Target, deadline: float, network: Network) -> socket.socket:
    """Return a connection to a vetted address, with TLS for the target's name."""
    addresses = _look_up(target, deadline, network)
    if not target.exempt and not all(is_public(address) for address in addresses):
        raise _refusal("url_not_allowed", "The URL must name a public host.")
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


def _look_up(target: _Target, deadline: float, network: Network) -> Sequence[str]:
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


class _TooMuch(Exception):
    """The response exceeds the caller's limit."""


class _Channel(io.RawIOBase):
    """The socket that http.client uses, with one deadline and a byte budget.

    The budget also bounds what http.client leaves unbounded: endless headers, endless
    "100 Continue", and a chunk of negative size, which it reads to the end of the stream.
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


def _refusal(code: str, detail: str) -> BadRequest:
    return BadRequest(code, detail, status=422)
