"""The SSRF guard against real servers on the loopback, well-behaved and hostile."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import trustme

from app.domain.errors import BadRequest
from app.outbound import Network, fetch, post

NAME = "pictures.example.com"
# Only passed to the test's own `connect`, which goes to the loopback instead.
PUBLIC = "93.184.215.14"
OTHER_PUBLIC = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"

Handler = Callable[[socket.socket], None]


@dataclass
class Server:
    """A listening socket whose connections each run `handler` in a thread."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)  # SNI of each connection

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/file"

    @property
    def allow(self) -> frozenset[tuple[str, int]]:
        return frozenset({("127.0.0.1", self.port)})


@contextlib.contextmanager
def serving(handler: Handler, authority_cert: trustme.LeafCert | None = None) -> Iterator[Server]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(listener.getsockname()[1])
    tls = None
    if authority_cert is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority_cert.configure_cert(tls)
        tls.sni_callback = lambda _sock, name, _context: server.names.append(name)
    threads = []

    def converse(connection: socket.socket) -> None:
        # Many tests expect the guard to hang up.
        with contextlib.suppress(OSError), connection:
            connection.settimeout(10)
            sock = tls.wrap_socket(connection, server_side=True) if tls else connection
            with sock:
                server.requests.append(read_request(sock))
                handler(sock)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=converse, args=(connection,)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for thread in threads:
            thread.join()


def read_request(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and (part := sock.recv(65536)):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]) and (part := sock.recv(65536)):
                body += part
    return head + b"\r\n\r\n" + body


def answer(status: str, body: bytes = b"", *headers: str, length: bool = True) -> Handler:
    lines = [f"HTTP/1.1 {status}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    data = "\r\n".join([*lines, "", ""]).encode() + body
    return lambda sock: sock.sendall(data)


def endless(start: bytes, again: bytes, pause_s: float = 0.0) -> Handler:
    """Send `start`, then `again` for ever."""

    def handler(sock: socket.socket) -> None:
        sock.sendall(start)
        while True:
            sock.sendall(again)
            time.sleep(pause_s)

    return handler


def get(server: Server, *, max_bytes: int = 100_000, timeout_s: float = 5.0) -> bytes:
    return fetch(server.url, max_bytes=max_bytes, timeout_s=timeout_s, allow=server.allow)


def code_of(call: Callable, *args, **options) -> str:
    with pytest.raises(BadRequest) as caught:
        call(*args, **options)
    assert caught.value.status == 422
    for secret in ("127.0.0.1", PUBLIC, OTHER_PUBLIC, "SECRET"):
        assert secret not in caught.value.detail
    return caught.value.code


# Successful requests


def test_the_body_of_a_good_answer_is_returned():
    with serving(answer("200 OK", b"picture")) as server:
        assert get(server) == b"picture"
    (request,) = server.requests
    head = request.split(b"\r\n")
    assert head[0] == b"GET /file HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}".encode() in head
    assert b"Accept-Encoding: identity" in head
    assert not any(line.lower().startswith((b"cookie", b"authorization")) for line in head)


@pytest.mark.parametrize(
    "handler",
    [
        answer(
            "200 OK",
            b"3\r\npic\r\n4;x=y\r\nture\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked",
            length=False,
        ),
        answer("200 OK", b"picture", length=False),
    ],
    ids=["chunked", "until the end"],
)
def test_a_body_without_a_length_is_returned_whole(handler):
    with serving(handler) as server:
        assert get(server) == b"picture"


def after(*interim: str) -> Callable[[Handler], Handler]:
    """The handler's answer after interim responses, each with its headers."""
    heads = "".join(f"HTTP/1.1 {head}\r\n\r\n" for head in interim).encode()

    def prefix(handler: Handler) -> Handler:
        def send_all(sock: socket.socket) -> None:
            sock.sendall(heads)
            handler(sock)

        return send_all

    return prefix


INTERIM = [
    ("100 Continue",),
    ("102 Processing",),
    ("103 Early Hints\r\nLink: </a.css>; rel=preload", "103 Early Hints\r\nLink: </b.css>"),
    ("100 Continue", "102 Processing\r\nX-Progress: 40", "104 Upload Resumption Supported"),
    ("103 X\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close",),
    ("102 Processing",) * 60,
]


@pytest.mark.parametrize("interim", INTERIM, ids=lambda heads: f"{len(heads)}x{heads[0][:3]}")
def test_interim_responses_are_not_the_answer(interim):
    with serving(after(*interim)(answer("200 OK", b"picture"))) as server:
        assert get(server) == b"picture"
    with serving(after(*interim)(answer("503 Busy", b"later", "Retry-After: 7"))) as server:
        assert code_of(get, server) == "url_bad_status"
        response = send(server)
    assert (response.status, response.body_excerpt) == (503, b"later")
    assert response.headers["retry-after"] == "7"
    assert not {"link", "x-progress"} & response.headers.keys()


def test_switching_protocols_is_an_answer_that_nobody_asked_for():
    with serving(answer("101 Switching Protocols", b"", "Upgrade: x", length=False)) as server:
        assert send(server).status == 101
        assert code_of(get, server) == "url_bad_status"


def test_interim_responses_without_end_are_given_up():
    for pause_s, code in ((0.0, "url_unreachable"), (0.1, "url_timeout")):
        with serving(endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n", pause_s)) as server:
            assert code_of(send, server, timeout_s=1.0) == code


def test_a_body_of_exactly_the_limit_is_fine():
    with serving(answer("200 OK", b"x" * 1000)) as server:
        assert len(get(server, max_bytes=1000)) == 1000
        assert code_of(get, server, max_bytes=999) == "url_too_large"


def test_proxies_of_the_environment_are_ignored(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    with serving(answer("200 OK", b"direct")) as server:
        assert get(server) == b"direct"


# Names, addresses and certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@dataclass
class FakeNetwork:
    """A simulated network: the resolver's answers, and where addresses lead."""

    authority: trustme.CA
    server: Server
    answers: list[list[str]]
    looked_up: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)
    dead: frozenset[str] = frozenset()

    def resolve(self, host: str, _port: int) -> list[str]:
        self.looked_up.append(host)
        return self.answers[min(len(self.looked_up), len(self.answers)) - 1]

    def connect(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        self.connected.append(address[0])
        if address[0] in self.dead:
            raise ConnectionRefusedError
        return socket.create_connection(("127.0.0.1", self.server.port), timeout_s)

    def tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def fetch(self, url: str = f"https://{NAME}/a.jpg") -> bytes:
        network = Network(self.resolve, self.connect, self.tls)
        return fetch(url, max_bytes=1000, timeout_s=5, network=network)


@pytest.fixture
def fake(authority):
    with serving(answer("200 OK", b"picture"), authority.issue_cert(NAME)) as server:
        yield FakeNetwork(authority, server, [[PUBLIC]])


def test_the_connection_goes_to_the_vetted_address_and_keeps_the_name(fake):
    assert fake.fetch() == b"picture"
    assert (fake.looked_up, fake.connected, fake.server.names) == ([NAME], [PUBLIC], [NAME])
    assert f"Host: {NAME}\r\n".encode() in fake.server.requests[0]


def test_a_trailing_dot_and_capitals_change_nothing(fake):
    assert (
        fake.fetch("https://PICTURES.example.com.:443/a.jpg?b=c d".replace(" ", "%20"))
        == b"picture"
    )
    assert fake.server.names == [NAME]
    assert fake.server.requests[0].startswith(b"GET /a.jpg?b=c%20d HTTP/1.1\r\n")


def test_letters_beyond_ascii_are_sent_as_the_dns_and_http_spell_them(authority):
    name = "xn--bcher-kva.example"
    with serving(answer("200 OK", b"picture"), authority.issue_cert(name)) as server:
        fake = FakeNetwork(authority, server, [[PUBLIC]])
        assert fake.fetch("https://bücher.example/größe?é#teil") == b"picture"
    assert fake.looked_up == server.names == [name]
    assert server.requests[0].startswith(b"GET /gr%C3%B6%C3%9Fe?%C3%A9 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        [PUBLIC, "127.0.0.1"],
        ["192.168.0.1", PUBLIC],
    ],
)
def test_a_name_with_any_private_address_is_refused_unconnected(fake, addresses):
    fake.answers = [addresses]
    assert code_of(fake.fetch) == "url_not_allowed"
    assert fake.connected == []


def test_a_name_that_changes_its_address_is_held_to_the_first(fake):
    fake.answers = [[PUBLIC], ["127.0.0.1"]]
    assert fake.fetch() == b"picture"
    assert (fake.looked_up, fake.connected) == ([NAME], [PUBLIC])


def test_the_next_address_is_tried_when_the_first_is_dead(fake):
    fake.answers, fake.dead = [[OTHER_PUBLIC, PUBLIC]], frozenset({OTHER_PUBLIC})
    assert fake.fetch() == b"picture"
    assert fake.connected == [OTHER_PUBLIC, PUBLIC]


def test_a_certificate_for_another_name_is_refused(fake):
    assert code_of(fake.fetch, "https://other.example.com/") == "url_unreachable"
    assert fake.server.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(fake):
    fake.authority = trustme.CA()
    assert code_of(fake.fetch) == "url_unreachable"
    assert fake.server.requests == []


def test_an_unknown_name_is_unreachable(fake):
    def unknown(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "SECRET resolver at 127.0.0.1")

    fake.resolve = unknown
    assert code_of(fake.fetch) == "url_unreachable"


def test_the_system_s_own_resolver_is_vetted_too():
    """A host that resolves to the loopback is not contacted, whatever its name."""
    network = Network(resolve=lambda _host, port: Network().resolve("localhost", port))
    with serving(answer("200 OK", b"inside")) as server:
        code = code_of(fetch, f"https://{NAME}/", max_bytes=9, timeout_s=5, network=network)
        assert code == "url_not_allowed"
    assert server.requests == []


def test_an_exception_covers_no_other_port():
    with serving(answer("200 OK", b"inside")) as server:
        allow = frozenset({("127.0.0.1", server.port + 1)})
        code = code_of(fetch, server.url, max_bytes=9, timeout_s=5, allow=allow)
        assert code == "url_not_allowed"
    assert server.requests == []


# Refusals


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Go", "308 Go"])
def test_a_redirect_is_an_error_and_not_followed(status):
    with serving(answer("200 OK", b"inside")) as inside:
        with serving(answer(status, b"", f"Location: {inside.url}")) as server:
            assert code_of(get, server) == "url_redirects"
        assert inside.requests == []


@pytest.mark.parametrize(
    "status", ["201 Created", "204 No", "206 Part", "401 No", "404 No", "500 Ow"]
)
def test_any_other_status_than_200_is_an_error(status):
    with serving(answer(status, b"SECRET")) as server:
        assert code_of(get, server) == "url_bad_status"


def test_an_announced_length_over_the_limit_is_refused_before_the_body():
    def handler(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n")
        sock.recv(1)  # until the guard hangs up

    with serving(handler) as server:
        assert code_of(get, server) == "url_too_large"


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"10000\r\n" + b"x" * 65536 + b"\r\n",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
        # A chunk of negative size reads "to the end" in http.client.
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    ],
    ids=["plain", "chunks", "tiny chunks", "negative chunk", "headers"],
)
def test_an_endless_answer_is_cut_off(start, again):
    with serving(endless(start, again)) as server:
        began = time.monotonic()
        assert code_of(get, server) in {"url_too_large", "url_unreachable"}
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "handler",
    [
        lambda sock: None,
        lambda sock: sock.sendall(b"SSH-2.0-OpenSSH_9.2 SECRET\r\n"),
        lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nSECRET"),
        answer("200 OK", b"9\r\nSECR", "Transfer-Encoding: chunked", length=False),
        answer("200 OK", b"zz\r\nSECRET", "Transfer-Encoding: chunked", length=False),
    ],
    ids=["nothing", "not http", "short body", "short chunk", "no chunk"],
)
def test_a_broken_answer_is_an_unreachable_server(handler):
    with serving(handler) as server:
        assert code_of(get, server) == "url_unreachable"


def test_a_closed_port_is_an_unreachable_server():
    with serving(answer("200 OK")) as server:
        pass
    assert code_of(get, server) == "url_unreachable"


# One deadline for everything


@pytest.mark.parametrize(
    "handler",
    [
        lambda sock: sock.recv(1),
        endless(b"HTTP/1.1 200 OK\r\nX: ", b"a", 0.02),
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"a", 0.02),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),
    ],
    ids=["silence", "slow header", "slow body", "slow continue"],
)
def test_a_server_that_drips_is_given_up_at_the_deadline(handler):
    with serving(handler) as server:
        began = time.monotonic()
        assert code_of(get, server, timeout_s=0.4) == "url_timeout"
        assert 0.35 < time.monotonic() - began < 1


def test_a_silent_tls_handshake_is_given_up_at_the_deadline():
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        port = listener.getsockname()[1]
        began = time.monotonic()
        allow = frozenset({("127.0.0.1", port)})
        url = f"https://127.0.0.1:{port}/"
        assert code_of(fetch, url, max_bytes=9, timeout_s=0.4, allow=allow) == "url_timeout"
        assert time.monotonic() - began < 1


def test_a_resolver_that_hangs_is_given_up_at_the_deadline():
    wake = threading.Event()

    def hang(_host: str, _port: int) -> list[str]:
        wake.wait(10)
        return [PUBLIC]

    network = Network(hang)
    began = time.monotonic()
    try:
        code = code_of(fetch, f"https://{NAME}/", max_bytes=9, timeout_s=0.3, network=network)
        assert code == "url_timeout"
        assert time.monotonic() - began < 1
    finally:
        wake.set()


# Webhooks


def send(server: Server, body: bytes = b"{}", timeout_s: float = 5.0, **headers: str):
    return post(server.url, body=body, headers=headers, timeout_s=timeout_s, allow=server.allow)


def test_a_post_carries_body_and_headers_and_returns_the_answer():
    with serving(answer("200 OK", b"thanks", "Retry-After: 7")) as server:
        response = send(server, b'{"a":1}', **{"webhook-id": "msg_1", "content-type": "text/x"})
    assert (response.status, response.body_excerpt) == (200, b"thanks")
    assert response.headers["retry-after"] == "7"
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == b'{"a":1}'
    assert {b"POST /file HTTP/1.1", b"webhook-id: msg_1", b"content-type: text/x"} <= set(
        head.split(b"\r\n")
    )


@pytest.mark.parametrize("status", [302, 400, 410, 500])
def test_a_post_reports_any_status_and_follows_no_redirect(status):
    with serving(answer("200 OK")) as inside:
        with serving(answer(f"{status} X", b"", f"Location: {inside.url}")) as server:
            assert send(server).status == status
        assert inside.requests == []


def test_only_the_beginning_of_an_answer_to_a_post_is_kept():
    with serving(endless(b"HTTP/1.1 500 Ow\r\n\r\n", b"x" * 65536)) as server:
        assert send(server).body_excerpt == b"x" * 4096


def test_a_large_body_is_sent_whole():
    body = bytes(range(256)) * 8000
    with serving(answer("204 No Content", length=False)) as server:
        assert send(server, body).status == 204
    assert server.requests[0].endswith(body)


def test_a_receiver_that_hangs_after_its_status_counts_as_answered():
    def handler(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nok")
        sock.recv(1)

    with serving(handler) as server:
        began = time.monotonic()
        response = send(server, timeout_s=20)
        assert (response.status, response.body_excerpt) == (200, b"ok")
        assert time.monotonic() - began < 2


def test_a_receiver_that_never_answers_times_out():
    with serving(lambda sock: sock.recv(1)) as server:
        assert code_of(send, server, timeout_s=0.3) == "url_timeout"


def test_a_post_is_vetted_like_a_fetch(fake):
    fake.answers = [["10.0.0.1"]]
    network = Network(fake.resolve, fake.connect, fake.tls)
    code = code_of(post, f"https://{NAME}/", body=b"", headers={}, timeout_s=5, network=network)
    assert code == "url_not_allowed"
    assert fake.connected == []
