"""Clients that are slow on purpose keep nobody else waiting."""

import contextlib
import json
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.store import keys
from tests.support import calls, make, services
from tests.support.raw import Raw, head, many

THREADS = 2
STALL_S = 6.0


@pytest.fixture(scope="module")
def _slow_server(session_settings):
    config = session_settings.model_copy(
        update={
            "public_url": f"http://127.0.0.1:{services.free_port()}",
            "internal_port": services.free_port(),
            "served_profiles": ("noop",),
            "api_threads": THREADS,
            "api_waiters": 5,
            "api_receivers": 20,
            "body_stall_s": STALL_S,
            "outbound_allow": ",".join(f"127.0.0.1:{port}" for port in DRIP_PORTS),
        }
    )
    with services.gunicorn(config) as url:
        yield url, f"http://127.0.0.1:{config.internal_port}"


DRIP_PORTS = [services.free_port()]


@pytest.fixture
def url(_slow_server, settings) -> str:
    return _slow_server[0]


@pytest.fixture
def internal(_slow_server) -> str:
    return _slow_server[1]


@pytest.fixture
def others_are_served(url, internal, store, photo):
    """A function that makes another tenant's requests and the health checks, one after another."""
    with store.begin() as tx:
        headers = {"Authorization": f"Bearer {keys.create(tx, 'neighbour')[1]}"}

    with httpx.Client(timeout=60, trust_env=False) as client:

        def serve():
            for path in (f"{internal}/healthz", f"{internal}/metrics", f"{url}/healthz"):
                assert client.get(path).status_code == 200
            answer = client.post(f"{url}/v1/jobs", files={"image": photo}, headers=headers)
            assert answer.status_code == 202

        serve()  # the first picture starts its process
        yield serve


SLOW = {
    "sign-ins without a key": lambda key: head(
        "POST", "/v1/session",
        Content_Type="application/json", Content_Length=60_000, Sec_Fetch_Site="same-origin",
    ),
    "JSON": lambda key: head(
        "POST", "/v1/jobs", key, Content_Type="application/json", Content_Length=60_000
    ),
    "forms": lambda key: head(
        "POST", "/v1/jobs", key,
        Content_Type="multipart/form-data; boundary=x", Content_Length=60_000,
    ),
    "chunks": lambda key: head(
        "POST", "/v1/jobs", key, Content_Type="application/json", Transfer_Encoding="chunked"
    ) + "ffff\r\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", SLOW)
def test_slow_bodies_hold_no_working_place(url, api_key, others_are_served, kind):
    with many(url, 4 * THREADS, SLOW[kind](api_key), "{") as slow:
        time.sleep(0.2)
        others_are_served()
        assert not any(map(_has_answered, slow)), "the others had to wait for these"


def test_slow_bodies_are_given_up(url, api_key):
    with many(url, 4 * THREADS, SLOW["JSON"](api_key), "{") as slow:
        answers = [one.answer() for one in slow]
        assert {(one.status, one.headers["connection"]) for one in answers} == {(408, "close")}
        assert b'"body_too_slow"' in answers[0].body
        assert all(one.ended() for one in slow)


def test_a_body_has_a_least_rate(url, api_key):
    """Never a pause that is too long, and yet refused soon after the first STALL_S."""
    slow = Raw(url).send(SLOW["JSON"](api_key))
    began = time.monotonic()
    answered = threading.Event()

    def drip():
        with contextlib.suppress(OSError):
            while not answered.wait(0.2):
                slow.send("{")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(drip)
        answer = slow.answer()
        answered.set()
    assert answer.status == 408
    assert time.monotonic() - began > STALL_S * 0.9
    slow.close()


def test_a_body_that_pauses_is_received(url, api_key, photo):
    files = httpx.Request("POST", url, files={"image": photo})
    body = files.read()
    one = Raw(url).send(
        head(
            "POST", "/v1/jobs", api_key,
            Content_Type=files.headers["Content-Type"], Content_Length=len(body),
        )
    )  # fmt: skip
    for start in range(0, len(body), 10_000):
        one.send(body[start : start + 10_000])
        time.sleep(0.1)
    answer = one.answer()
    assert (answer.status, answer.headers["connection"]) == (202, "keep-alive")
    one.close()


def test_one_key_cannot_take_every_receiving_place(url, api_key, store, photo):
    with many(url, 20, SLOW["JSON"](api_key), "{") as slow:
        time.sleep(0.3)
        with store.begin() as tx:
            other = keys.create(tx, "other")[1]
        more = Raw(url).send(SLOW["JSON"](other), "{")
        time.sleep(0.3)
        refused = [one for one in slow if _has_answered(one)]
        assert not _has_answered(more)
        assert 2 <= len(refused) <= 6
        answer = refused[0].answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert b'"too_many_uploads"' in answer.body
        more.close()


def _has_answered(one: Raw) -> bool:
    one.sock.setblocking(False)
    try:
        return bool(one.sock.recv(1, 2))  # MSG_PEEK
    except BlockingIOError:
        return False
    finally:
        one.sock.settimeout(20)


@pytest.fixture
def dripping():
    """A picture's URL that gives one byte now and then."""
    stopping = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(4096)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            with contextlib.suppress(OSError):
                while not stopping.wait(0.5):
                    self.request.sendall(b"x")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 64

    with Server(("127.0.0.1", DRIP_PORTS[0]), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{DRIP_PORTS[0]}/photo.jpg"
        stopping.set()
        server.shutdown()


def test_dripping_picture_urls_hold_no_working_place(url, api_key, others_are_served, dripping):
    body = json.dumps({"image": dripping})
    sent = head(
        "POST", "/v1/jobs", api_key, Content_Type="application/json", Content_Length=len(body)
    )
    with many(url, 4 * THREADS, sent, body) as waiting:
        time.sleep(0.5)
        others_are_served()
        assert not any(map(_has_answered, waiting)), "the others had to wait for these"


def test_300_half_sent_heads_take_no_thread(url, others_are_served):
    with many(url, 300, "GET /v1/jobs HTTP/1.1\r\nHost: a") as slow:
        others_are_served()
        assert not any(map(_has_answered, slow[150:])), "the others had to wait for these"


def test_a_half_sent_head_is_given_up(url):
    one = Raw(url).send("GET /v1/jobs HTTP/1.1\r\n")
    began = time.monotonic()
    answer = one.answer()
    assert (answer.status, answer.headers["content-type"]) == (408, "application/problem+json")
    assert json.loads(answer.body)["code"] == "head_too_slow"
    assert time.monotonic() - began > STALL_S * 0.9
    assert one.ended()


def test_clients_that_do_not_close_take_no_thread_and_no_loop(url, others_are_served):
    """gunicorn's own loop waits two seconds for each."""
    with many(url, 20, head("GET", "/healthz", Connection="close")) as staying:
        began = time.monotonic()
        others_are_served()
        assert time.monotonic() - began < 20  # not two seconds for each
        assert {one.answer().status for one in staying} == {200}


def test_a_key_that_waits_everywhere_is_told_and_others_still_wait(url, api_key, store, photo):
    headers = {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        job = client.post("/v1/jobs", files={"image": photo}).json()["id"]
        streams = [Raw(url).send(head("GET", f"/v1/jobs/{job}/events", api_key)) for _ in range(4)]
        assert {one.answer().status for one in streams} == {200}
        refused = client.get(f"/v1/jobs/{job}/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
        prefer = {"Prefer": "wait=5"}
        answer = client.post("/v1/jobs", files={"image": photo}, headers=prefer)
        assert answer.status_code == 202
        assert answer.headers["Preference-Refused"] == "wait"
        assert "Preference-Applied" not in answer.headers
        with store.begin() as tx:
            other = {"Authorization": f"Bearer {keys.create(tx, 'other')[1]}"}
        answer = client.post(
            "/v1/jobs", files={"image": photo}, headers=other | {"Prefer": "wait=1"}
        )
        assert answer.headers["Preference-Applied"] == "wait=1"
        assert "Preference-Refused" not in answer.headers
        for one in streams:
            one.close()
    assert calls.rows_in(store) == 3
    assert make.read(store, job).state == "queued"
