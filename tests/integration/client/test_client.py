"""The Python client: what it repeats, what it does not, and what it leaves on disk.

Every test runs twice: with the client that blocks, and with the one for asyncio.
"""

import asyncio
import inspect
import io
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stillmotion import (
    AsyncClient,
    Client,
    CompletedEvent,
    JobFailed,
    Rejected,
    UnexpectedResponse,
    Unreachable,
    WaitTimeout,
    events,
    requests,
    wire,
)
from tests.support import calls, services
from tests.support.proxy import Proxy


class Blocking:
    """An AsyncClient that is called as a Client is."""

    def __init__(self, *arguments, **options):
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*arguments, **options)

    def __enter__(self):
        self._runner.run(self._client.__aenter__())
        return self

    def __exit__(self, *error):
        self._runner.run(self._client.__aexit__(*error))
        self._runner.close()

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*arguments, **options):
            result = method(*arguments, **options)
            return self._runner.run(result) if inspect.iscoroutine(result) else self._each(result)

        return call

    def _each(self, items):
        async def following():
            return await anext(items)

        try:
            while True:
                yield self._runner.run(following())
        except StopAsyncIteration:
            return
        finally:
            self._runner.run(items.aclose())


@pytest.fixture(params=[Client, Blocking])
def make_client(request):
    return request.param


class Script:
    """A server that answers as it is told, one entry per request, the last one for ever.

    An entry is (status, headers, body), or "cut": the request is read and the line goes dead. A
    body that is shorter than its Content-Length is cut off as well.
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

            do_POST = do_PATCH = do_DELETE = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def job(self, state="queued", **changes):
        return 200, {}, json.dumps(job_of(state) | changes).encode()

    def clip(self, size):
        output = {"url": f"{self.url}/clip?signature=s", "size_bytes": size}
        output |= {"expires_at": "2026-01-02T03:04:05Z", "content_type": "video/mp4"}
        return self.job("succeeded", output=output)


def job_of(state="queued"):
    """A job as a server shows it."""
    nothing = ("started_at", "finished_at", "deadline", "expires_at", "eta_seconds", "queue")
    nothing += ("output", "error", "webhook_url", "webhook_events")
    return dict.fromkeys(nothing) | {
        "id": "j1",
        "state": state,
        "terminal": state in ("succeeded", "failed"),
        "created_at": "2026-01-02T03:04:05Z",
        "retention_seconds": 60,
        "model": "noop",
        "prompt": "",
        **dict.fromkeys(("seed", "frames", "fps", "size", "priority"), 1),
        "motion": 1.0,
        "loop": False,
        "cost_units": 1.0,
        "region": {"home": "us-east", "policy": "ring", "allowed": None, "current": None},
        "progress": {"step": 1, "steps": 4},
        "metrics": dict.fromkeys(("queue", "render", "total", "predicted")),
        "metadata": {},
        "urls": {"self": "http://x/"},
    }


UNAVAILABLE = (503, {"Retry-After": "0"}, b'{"code": "database_unavailable", "detail": "Down."}')


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(wire, "BACKOFF_CAP_S", 0.02)
    script = Script()
    yield script
    script.server.shutdown()
    script.server.server_close()


@pytest.fixture
def client(script, make_client):
    with make_client(script.url, "sm_key", timeout_s=5) as client:
        yield client


@pytest.mark.parametrize(
    "trouble", [UNAVAILABLE, (429, {"Retry-After": "0"}, b""), (502, {}, b"<html>"), "cut"]
)
def test_a_submit_is_retried_with_the_same_key_and_body(script, client, trouble):
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
def test_a_refusal_is_not_retried_and_keeps_the_servers_message(script, client, status):
    script.answers = [(status, {}, b'{"code": "unknown_model", "detail": "No such model."}')]
    with pytest.raises(Rejected) as caught:
        client.submit(b"a")
    assert (caught.value.status, caught.value.code) == (status, "unknown_model")
    assert caught.value.detail == "No such model."
    assert len(script.seen) == 1


def test_a_server_error_is_not_retried(script, client):
    script.answers = [(500, {}, b'{"code": "internal_error", "detail": "Broken."}')]
    with pytest.raises(Unreachable, match="Broken"):
        client.submit(b"a")
    assert len(script.seen) == 1


def test_retrying_ends(script, client):
    script.answers = [UNAVAILABLE]
    with pytest.raises(Unreachable, match="Down") as caught:
        client.submit(b"a")
    assert caught.value.problem.code == "database_unavailable"
    assert len(script.seen) == wire.TRIES


def test_retry_after_is_honoured(script, client):
    script.answers = [(503, {"Retry-After": "1"}, b""), script.job()]
    began = time.monotonic()
    client.get("j1")
    assert 1.0 <= time.monotonic() - began < 3


def test_a_missing_server_is_unreachable(script, make_client):
    with (
        make_client(f"http://127.0.0.1:{services.free_port()}", "k") as client,
        pytest.raises(Unreachable, match="is not reachable"),
    ):
        client.get("j1")


def test_a_wait_survives_an_outage_and_reports_every_response(script, client):
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
    assert job.error.message == "It broke."


def test_a_wait_ends_at_its_time_and_the_job_goes_on(script, client):
    script.answers = [script.job()]
    began = time.monotonic()
    with pytest.raises(WaitTimeout):
        client.wait("j1", timeout_s=0.5)
    assert 0.5 <= time.monotonic() - began < 3
    assert {path for _, path, _, _ in script.seen} == {"/v1/jobs/j1"}


def test_polling_slows_down(script, client):
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
    script.server.RequestHandlerClass.timeout = 0.2
    assert client.download("j1", target) == target
    assert target.read_bytes() == b"clip"
    assert list(tmp_path.iterdir()) == [target]
    for _, path, headers, _ in script.seen:
        assert (headers["Authorization"] is None) == path.startswith("/clip")


def test_a_download_that_fails_leaves_what_was_there(script, client, tmp_path):
    script.answers = [script.clip(4), (403, {}, b'{"code": "url_expired", "detail": "Expired."}')]
    target = tmp_path / "a.mp4"
    target.write_bytes(b"the one from before")
    with pytest.raises(Rejected, match="Expired"):
        client.download("j1", target)
    assert target.read_bytes() == b"the one from before"
    assert list(tmp_path.iterdir()) == [target]


def test_run_submits_waits_and_returns_the_path(script, client, tmp_path):
    clip = script.clip(4)
    script.answers = [script.job(), script.job("processing"), clip, clip, (200, {}, b"clip")]
    target = tmp_path / "a.mp4"
    states = []
    made = client.run(b"a", "wind", to=target, on_update=lambda job: states.append(job.state))
    assert made == target
    assert target.read_bytes() == b"clip"
    assert states == ["processing", "succeeded"]
    assert b"wind" in script.seen[0][3]


@pytest.mark.parametrize(
    ("state", "error", "code", "detail"),
    [
        ("failed", {"code": "render_impossible", "message": "Too dark."}, None, "Too dark."),
        ("canceled", None, "job_canceled", "Job j1 ended as canceled."),
    ],
)
def test_run_raises_the_jobs_error(script, client, tmp_path, state, error, code, detail):
    script.answers = [script.job(), script.job(state, terminal=True, error=error)]
    with pytest.raises(JobFailed, match=f"Job j1 ended as {state}") as caught:
        client.run(b"a", to=tmp_path / "a.mp4")
    assert caught.value.code == (code or error["code"])
    assert caught.value.detail == detail
    assert caught.value.job.state == state
    assert list(tmp_path.iterdir()) == []


def test_run_submits_nothing_if_the_output_cannot_be_written(script, client, tmp_path):
    with pytest.raises(FileNotFoundError):
        client.run(b"a", to=tmp_path / "missing/a.mp4")
    assert script.seen == []


def test_a_job_stands_for_its_id(script, client, tmp_path):
    clip = script.clip(4)
    script.answers = [clip, clip, clip, (200, {}, b"clip")]
    job = client.wait(client.get("j1"))
    assert client.download(job, tmp_path / "a.mp4").read_bytes() == b"clip"
    paths = [path for _, path, _, _ in script.seen]
    assert paths == [*["/v1/jobs/j1"] * 3, "/clip?signature=s"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((404, {}, b"<html>"), "status 404"),
        ((405, {}, b""), "status 405"),
        ((501, {}, b""), "status 501"),
        ((301, {"Location": "https://x.example/"}, b""), "status 301 to https://x.example/"),
        ((200, {}, b"<html>"), "not JSON"),
        ((200, {}, b'{"id": 1}'), "/id: "),
    ],
)
def test_a_foreign_server_is_recognised(script, client, answer, problem):
    script.answers = [answer]
    with pytest.raises(UnexpectedResponse) as caught:
        client.submit(b"a")
    sentence = f"Unexpected response from {script.url}/v1/jobs; is this a Stillmotion server?"
    assert caught.value.detail.startswith(f"{sentence} ({problem}")
    assert len(script.seen) == 1


def test_ids_are_quoted(script, client):
    script.answers = [script.job()]
    client.get("../../metrics")
    assert script.seen[0][1] == "/v1/jobs/..%2F..%2Fmetrics"


def test_additions_of_a_newer_server_are_ignored(script, client):
    script.answers = [script.job("resting", terminal=True, mood="good")]
    job = client.wait("j1")
    assert (job.state, job.terminal) == ("resting", True)
    assert job.raw["mood"] == "good"


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[]", b'{"id": "j1"}'])
def test_a_foreign_server_is_named_as_such(script, client, body):
    script.answers = [(200, {}, body)]
    with pytest.raises(UnexpectedResponse, match=r"Unexpected response from http://.*; is this"):
        client.wait("j1")
    assert len(script.seen) == 1


@pytest.mark.parametrize(
    ("call", "status", "tries"),
    [
        (lambda client: client.create_webhook("https://example.com/"), 503, 1),
        (lambda client: client.rotate_secret(), 502, 1),
        (lambda client: client.redeliver("d"), 504, 1),
        (lambda client: client.test_webhook("w"), 429, wire.TRIES),
        (lambda client: client.update_webhook("w", enabled=True), 503, wire.TRIES),
        (lambda client: client.delete("j"), 503, wire.TRIES),
    ],
)
def test_non_idempotent_calls_are_not_retried(script, client, call, status, tries):
    script.answers = [(status, {"Retry-After": "0"}, b"")]
    with pytest.raises(Unreachable):
        call(client)
    assert len(script.seen) == tries


def event(name, data, position=None):
    head = "" if position is None else f"id: {position}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"


def status(state, position=None):
    data = {"state": state, "terminal": False, "at": "2026-01-02T03:04:05Z", "attempt": None}
    return event("status", data | {"region": None, "reason": None}, position)


STEP = {"steps": 4, "attempt": 1, "eta_seconds": None, "at": "2026-01-02T03:04:05Z"}
STREAM = {"Content-Type": "text/event-stream"}
QUICK = "retry: 0\n\n:\n\n"


def test_events_go_on_where_a_connection_was_lost(script, client):
    first = QUICK + status("queued", "0.0.0") + event("mood", {"good": 1}) + "event: progress\nda"
    second = status("processing", "1.2.0") + event("progress", STEP | {"step": 2}, "1.2.2")
    third = event("completed", job_of("succeeded"), "1.4.0") + status("never")
    script.answers = [
        UNAVAILABLE,
        (200, STREAM | {"Content-Length": 9999}, first.encode()),
        "cut",
        (200, STREAM, second.replace("\n", "\r\n").encode()),
        (200, STREAM, third.replace("\n", "\r").encode()),
    ]
    script.server.RequestHandlerClass.timeout = 0.2
    seen = list(client.events("j1"))
    names = [(one.name, one.id) for one in seen]
    assert names == [
        ("status", "0.0.0"),
        ("mood", None),
        ("status", "1.2.0"),
        ("progress", "1.2.2"),
        ("completed", "1.4.0"),
    ]
    assert seen[3].step == 2
    assert seen[4].job.state == "succeeded"
    asked = [headers["Last-Event-ID"] for _, _, headers, _ in script.seen]
    assert asked == [None, None, "0.0.0", "0.0.0", "1.2.2"]


def test_a_job_whose_end_was_seen_has_no_further_events(script, client):
    script.answers = [(204, {}, b"")]
    assert list(client.events("j1", "1.4.0")) == []
    assert script.seen[0][2]["Last-Event-ID"] == "1.4.0"


def test_events_end_when_nothing_answers_for_long(script, client, monkeypatch):
    monkeypatch.setattr(events, "OUTAGE_S", 0.3)
    monkeypatch.setattr(events, "RETRY_S", 0.0)
    script.answers = [UNAVAILABLE]
    with pytest.raises(Unreachable, match="Down"):
        list(client.events("j1"))
    assert len(script.seen) > 1


@pytest.mark.parametrize("data", ["{", "[]", "x" * events.MAX_EVENT_BYTES])
def test_a_stream_that_does_not_exist_ends_the_iteration(script, client, data):
    script.answers = [(200, STREAM, f"event: status\ndata: {data}\n\n".encode())]
    with pytest.raises(UnexpectedResponse):
        list(client.events("j1"))


@pytest.fixture
def real(server, api_key, make_client):
    """The client of a real server."""
    with make_client(server, api_key) as client:
        yield client


def test_a_real_server_takes_what_the_client_sends(real, photo, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    job = real.submit(
        path,
        "naïve wind",
        model="noop",
        seed=2**63 - 1,
        frames=16,
        loop=True,
        allowed_regions=["us-east", "us-west"],
        metadata={"a": "ключ"},
        webhook_url=None,
    )
    assert job.prompt == "naïve wind"
    assert (job.seed, job.loop) == (2**63 - 1, True)
    assert job.region.allowed == ["us-east", "us-west"]
    assert job.metadata == {"a": "ключ"}
    assert real.get(job.id).queue.position == 0
    others = [real.submit(image, model="noop").id for image in (str(path), io.BytesIO(photo))]
    sent = real.upload(photo)
    others.append(real.submit(sent, "again", loop=True, model="noop", metadata={"b": "1"}).id)
    assert [one.id for one in real.list(state="queued")] == [*reversed(others), job.id]
    assert [one.id for one in real.list(metadata={"a": "ключ"})] == [job.id]
    an_hour = timedelta(hours=1)
    assert list(real.list(created_after=datetime.now(UTC) + an_hour)) == []
    assert len(list(real.list(created_before=datetime.now(UTC) + an_hour))) == 4
    waited = real.submit(photo, model="noop", wait_s=1, idempotency_key="mine")
    assert real.submit(photo, model="noop", idempotency_key="mine").id == waited.id
    assert real.cancel(job.id).state == "canceled"
    with pytest.raises(Rejected, match="has ended"):
        real.cancel(job.id)
    assert [entry.event for entry in real.timeline(job.id)] == ["queued", "canceled"]
    real.delete(job.id)
    with pytest.raises(Rejected) as caught:
        real.get(job.id)
    assert (caught.value.status, caught.value.code) == (410, "job_deleted")


def test_a_refusal_lists_every_error_and_the_request_id(real, photo):
    with pytest.raises(Rejected) as caught:
        real.submit(photo, "x" * 2000, motion=9, idempotency_key="mine")
    assert caught.value.code == "prompt_too_long"
    assert caught.value.pointer == "/prompt"
    assert [error.pointer for error in caught.value.errors] == ["/prompt", "/motion"]
    assert caught.value.instance.startswith("urn:uuid:")
    with pytest.raises(Rejected) as caught:
        real.submit("https://127.0.0.1/photo.jpg")
    assert caught.value.pointer == "/image"


def test_pages_are_fetched_lazily(real, photo, monkeypatch):
    made = [real.submit(photo, model="noop").id for _ in range(5)]
    monkeypatch.setattr(requests, "PAGE", 2)
    assert [job.id for job in real.list()] == made[::-1]
    assert [job.id for job in real.list(limit=3)] == made[:1:-1]
    assert list(real.list(limit=0)) == []


def test_a_dry_run_the_models_the_regions_and_the_usage(real, photo):
    assert real.estimate(photo, model="noop").region.predicted == "us-east"
    assert list(real.list()) == []
    real.submit(photo, model="noop")
    assert [model.id for model in real.models()] == ["motion-small", "noop"]
    assert {region.id for region in real.regions().data} == {"us-east", "us-west", "eu-west"}
    today = datetime.now(UTC).date()
    [day] = real.usage(start=today - timedelta(days=1), end=today).data
    assert (day.model, day.jobs) == ("noop", 1)


def test_webhooks_from_creation_to_removal(real):
    made = real.create_webhook("https://example.com/hook", ["job.failed"])
    assert made.secret.startswith("whsec_")
    assert [hook.id for hook in real.webhooks()] == [made.id]
    assert real.update_webhook(made.id, events=["job.succeeded"]).events == ["job.succeeded"]
    assert not real.update_webhook(made.id, enabled=False).enabled
    assert real.update_webhook(made.id, enabled=True).enabled
    assert real.rotate_secret(made.id, grace_seconds=60).secret != made.secret
    assert real.rotate_secret().secret.startswith("whsec_")
    sent = real.test_webhook(made.id)
    assert [one.id for one in real.deliveries(webhook_id=made.id, state="pending")] == [sent.id]
    assert list(real.deliveries(after=sent.id)) == []
    assert real.redeliver(sent.id).event == "webhook.test"
    real.delete_webhook(made.id)
    assert real.webhooks() == []


def test_events_of_a_real_job_up_to_its_end(real, photo):
    job = real.submit(photo, model="noop")
    following = real.events(job.id)
    first = next(following)
    assert (first.name, first.state) == ("status", "queued")
    real.cancel(job.id)
    *_, last = following
    assert isinstance(last, CompletedEvent)
    assert (last.job.id, last.job.state) == (job.id, "canceled")
    assert list(real.events(job.id, last.id)) == []


@pytest.fixture
def lossy(server, api_key, make_client):
    """A client whose way to the server can lose an answer, and the proxy that loses it."""
    host, _, port = server.removeprefix("http://").partition(":")
    proxy = Proxy((host, int(port)))
    with make_client(f"http://127.0.0.1:{proxy.port}", api_key, timeout_s=10) as client:
        yield client, proxy
    proxy.close()


def test_a_call_whose_response_is_lost_is_done_once(lossy, photo, store):
    client, proxy = lossy
    proxy.lose_answer_to(b"POST /v1/jobs")
    job = client.submit(photo, model="noop")
    assert calls.rows_in(store) == 1
    proxy.lose_answer_to(b"/cancel")
    assert client.cancel(job.id).state == "canceled"
    proxy.lose_answer_to(b"DELETE /v1/jobs")
    client.delete(job.id)
    hook = client.create_webhook("https://example.com/hook")
    proxy.lose_answer_to(b"DELETE /v1/webhooks")
    client.delete_webhook(hook.id)
    assert proxy.cuts == 4
    proxy.lose_answer_to(b"POST /v1/webhooks")
    with pytest.raises(Unreachable):
        client.create_webhook("https://example.com/hook")
    assert calls.rows_in(store, "webhook_endpoints") == 1
