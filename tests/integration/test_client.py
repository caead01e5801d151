"""The Python client: what it repeats, what it does not, and what it leaves on disk."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app import client as client_module
from app.client import Client, Job, Rejected, Unreachable, WaitTimeout
from tests import services


class Script:
    """A server that answers as it is told, one entry per request, the last one for ever.

    An entry is (status, headers, body), or "cut": the request is read and the line goes dead.
    """

    def __init__(self):
        self.answers = []
        self.seen = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                length = int(self.headers.get("Content-Length", 0))
                script.seen.append((self.command, self.path, self.headers, self.rfile.read(length)))
                answers = script.answers
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if answer == "cut":
                    self.close_connection = True
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in {"Content-Length": len(body), **headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def job(self, state="queued", **changes):
        body = {
            "id": "j1",
            "state": state,
            "terminal": state in ("succeeded", "failed"),
            "progress": {"step": 1, "steps": 4},
            "queue": None,
            "output": None,
            "error": None,
        }
        return 200, {}, json.dumps(body | changes).encode()

    def clip(self, size):
        return self.job(
            "succeeded", output={"url": f"{self.url}/clip?signature=s", "size_bytes": size}
        )


UNAVAILABLE = (503, {"Retry-After": "0"}, b'{"code": "database_unavailable", "detail": "Down."}')


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(client_module, "BACKOFF_CAP_S", 0.02)
    script = Script()
    yield script
    script.server.shutdown()
    script.server.server_close()


@pytest.fixture
def client(script):
    with Client(script.url, "sm_key", timeout_s=5) as client:
        yield client


@pytest.mark.parametrize(
    "trouble", [UNAVAILABLE, (429, {"Retry-After": "0"}, b""), (502, {}, b"<html>"), "cut"]
)
def test_a_submit_is_repeated_with_the_same_key_and_body(script, client, trouble):
    script.answers = [trouble, trouble, script.job()]
    assert client.submit(b"picture", "wind", seed=7).id == "j1"
    assert len(script.seen) == 3
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in script.seen}) == 1
    for _, path, headers, body in script.seen:
        assert path == "/v1/jobs"
        assert headers["Authorization"] == "Bearer sm_key"
        assert b"picture" in body
        assert b"wind" in body


def test_two_submits_have_two_keys(script, client):
    script.answers = [script.job()]
    client.submit(b"a")
    client.submit(b"a")
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in script.seen}) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
def test_a_refusal_is_not_repeated_and_keeps_the_servers_words(script, client, status):
    script.answers = [(status, {}, b'{"code": "unknown_model", "detail": "No such model."}')]
    with pytest.raises(Rejected) as caught:
        client.submit(b"a")
    assert (caught.value.status, caught.value.code) == (status, "unknown_model")
    assert caught.value.detail == "No such model."
    assert len(script.seen) == 1


def test_a_fault_of_the_server_is_not_repeated(script, client):
    script.answers = [(500, {}, b'{"code": "internal_error", "detail": "Broken."}')]
    with pytest.raises(Unreachable, match="Broken"):
        client.submit(b"a")
    assert len(script.seen) == 1


def test_repeating_ends(script, client):
    script.answers = [UNAVAILABLE]
    with pytest.raises(Unreachable, match="Down"):
        client.submit(b"a")
    assert len(script.seen) == client_module.TRIES


def test_retry_after_is_honoured(script, client):
    script.answers = [(503, {"Retry-After": "1"}, b""), script.job()]
    began = time.monotonic()
    client.get("j1")
    assert 1.0 <= time.monotonic() - began < 3


def test_a_server_that_is_not_there_is_unreachable(script):
    with (
        Client(f"http://127.0.0.1:{services.free_port()}", "k") as client,
        pytest.raises(Unreachable, match="refused"),
    ):
        client.get("j1")


def test_a_wait_outlives_an_outage_and_reports_every_answer(script, client):
    script.answers = [
        script.job(),
        UNAVAILABLE,
        "cut",
        (500, {}, b""),
        script.job("processing"),
        script.job("failed", error={"code": "x", "message": "It broke."}),
    ]
    seen = []
    job = client.wait("j1", lambda job: seen.append(job.state))
    assert seen == ["queued", "processing", "failed"]
    assert job.error == "It broke."


def test_a_wait_ends_at_its_time_and_the_job_goes_on(script, client):
    script.answers = [script.job()]
    began = time.monotonic()
    with pytest.raises(WaitTimeout):
        client.wait("j1", timeout_s=0.5)
    assert 0.5 <= time.monotonic() - began < 3
    assert {path for _, path, _, _ in script.seen} == {"/v1/jobs/j1"}


def test_polls_become_slower(script, client):
    script.answers = [script.job()]
    with pytest.raises(WaitTimeout):
        client.wait("j1", timeout_s=2.0)
    assert 6 <= len(script.seen) <= 11  # 20 at 0.1 s


def test_a_download_sends_no_key_and_appears_only_when_complete(script, client, tmp_path):
    short = (200, {"Content-Length": "10"}, b"half")
    script.answers = [
        script.clip(4),
        short,
        script.clip(4),
        UNAVAILABLE,
        script.clip(4),
        (200, {}, b"clip"),
    ]
    target = tmp_path / "a.mp4"
    target.write_bytes(b"the one from before")
    job = Job(json.loads(script.clip(4)[2]))
    script.server.RequestHandlerClass.timeout = 0.2
    assert client.download(job, target) == target
    assert target.read_bytes() == b"clip"
    assert list(tmp_path.iterdir()) == [target]
    for _, path, headers, _ in script.seen:
        assert (headers["Authorization"] is None) == path.startswith("/clip")


def test_a_download_that_fails_leaves_what_was_there(script, client, tmp_path):
    script.answers = [script.clip(4), (403, {}, b'{"code": "url_expired", "detail": "Expired."}')]
    target = tmp_path / "a.mp4"
    target.write_bytes(b"the one from before")
    with pytest.raises(Rejected, match="Expired"):
        client.download(Job(json.loads(script.clip(4)[2])), target)
    assert target.read_bytes() == b"the one from before"
    assert list(tmp_path.iterdir()) == [target]


def test_ids_are_quoted(script, client):
    script.answers = [script.job()]
    client.get("../../metrics")
    assert script.seen[0][1] == "/v1/jobs/..%2F..%2Fmetrics"


def test_a_real_server_takes_what_the_client_sends(server, api_key, photo, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    with Client(server, api_key) as client:
        job = client.submit(
            path,
            "naïve wind",
            model="noop",
            seed=2**63 - 1,
            frames=16,
            allowed_regions=["us-east", "us-west"],
            metadata={"a": "ключ"},
            webhook_url=None,
        )
        assert job.raw["prompt"] == "naïve wind"
        assert job.raw["seed"] == 2**63 - 1
        assert job.raw["region"]["allowed"] == ["us-east", "us-west"]
        assert job.raw["metadata"] == {"a": "ключ"}
        assert client.get(job.id).position == 0
        assert [one.id for one in client.list(state="queued")] == [job.id]
        assert client.cancel(job.id).state == "canceled"
        with pytest.raises(Rejected, match="has ended"):
            client.cancel(job.id)
