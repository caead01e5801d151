"""The Python client's calls: what it repeats, what it refuses, and what it reports."""

import time

import pytest

from stillmotion import Rejected, UnexpectedResponse, Unreachable, wire
from tests.support import services
from tests.support.scripted_server import UNAVAILABLE


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


def test_retries_are_limited(script, client):
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
def test_a_foreign_server_is_recognised_while_waiting(script, client, body):
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
