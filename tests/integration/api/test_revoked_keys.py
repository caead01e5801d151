"""A revoked key ends what it has open: streams, waits, sessions."""

import threading
import time

import httpx
import pytest

from app.store import keys
from tests.integration.api.test_jobs import finish, place_and_begin
from tests.support import sse

OWN = {"Sec-Fetch-Site": "same-origin"}
SOON_S = 8.0  # a second is what the guide promises; this machine is shared


@pytest.fixture
def key(store):
    """A key's id and plain text."""
    with store.begin() as tx:
        return keys.create(tx, "leaked")


@pytest.fixture(params=["bearer", "cookie"])
def client(request, server, key):
    """A client of the real server, with the key or with a session of it."""
    with httpx.Client(base_url=server, headers=OWN, timeout=60, trust_env=False) as client:
        if request.param == "bearer":
            client.headers["Authorization"] = f"Bearer {key[1]}"
        else:
            assert client.post("/v1/session", json={"api_key": key[1]}).status_code == 200
        yield client


def submit(client, photo, **headers):
    return client.post("/v1/jobs", files={"image": photo}, headers=headers)


def revoke(store, key):
    with store.begin() as tx:
        assert keys.revoke(tx, key[0])


def test_a_stream_ends_and_shows_no_clip(client, store, key, photo):
    """It went on for up to an hour, and its last event had a fresh link to the clip."""
    job_id = submit(client, photo).json()["id"]
    seen = []
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        assert answer.status_code == 200
        events = sse.events(answer.iter_lines())
        seen.append(next(events))
        revoke(store, key)
        revoked = time.monotonic()
        time.sleep(1.2)  # the key may still be remembered for a second
        finish(store, place_and_begin(store, job_id))
        seen.extend(events)
    assert time.monotonic() - revoked < SOON_S
    assert {event.name for event in seen} <= {"status", "queue"}
    assert [event.data["state"] for event in seen if event.name == "status"] == ["queued"]


def test_a_wait_for_the_result_ends_with_401(client, store, key, photo):
    answers = []
    waiting = threading.Thread(
        target=lambda: answers.append(submit(client, photo, Prefer="wait=30"))
    )
    began = time.monotonic()
    waiting.start()
    time.sleep(1.0)
    revoke(store, key)
    waiting.join(40)
    [answer] = answers
    assert answer.status_code == 401
    bearer = "Authorization" in client.headers
    assert answer.json()["code"] == ("invalid_api_key" if bearer else "invalid_session")
    assert time.monotonic() - began < SOON_S


def test_other_keys_streams_go_on(server, store, key, api_key, photo):
    with httpx.Client(base_url=server, timeout=60, trust_env=False) as client:
        client.headers["Authorization"] = f"Bearer {api_key}"
        job_id = submit(client, photo).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            events = sse.events(answer.iter_lines())
            next(events)
            revoke(store, key)
            time.sleep(1.2)
            finish(store, place_and_begin(store, job_id))
            assert list(events)[-1].name == "completed"
