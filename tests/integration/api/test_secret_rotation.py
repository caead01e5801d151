"""SECRET_KEY is replaced with an overlap: what the previous key signed is accepted meanwhile."""

import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from app.api.application import create_app
from tests.support import calls, services

OWN = {"Sec-Fetch-Site": "same-origin"}
NEW_KEY = "3yIvR0pSxq1jV7mZt9cKbWuE5hLd2gAo"


@pytest.fixture
def serve(change, contract):
    """A function that starts an API with other settings and returns a client of it."""
    started = []

    def start(**changes):
        app = create_app(change(**changes))
        app.test_client_class = contract.client_class()
        started.append(app)
        return app.test_client()

    yield start
    for app in started:
        app.extensions["services"].close()


@pytest.fixture
def rotated(serve):
    return serve(secret_key=NEW_KEY, previous_secret_key=services.SECRET_KEY)


def put(client, url, data):
    parts = urlsplit(url)
    return client.put(f"{parts.path}?{parts.query}", data=data)


def test_urls_of_the_previous_key_work_until_it_is_dropped(api, serve, rotated, app):
    app.extensions["services"].objects.put("outputs/a.mp4", b"clip", "video/mp4")
    url = app.extensions["services"].objects.signed_url("outputs/a.mp4", expires_s=60)
    upload = api.post("/v1/uploads", json={"size_bytes": 4}).get_json()["url"]
    assert rotated.get(url).data == b"clip"
    assert put(rotated, upload, b"data").status_code == 200
    dropped = serve(secret_key=NEW_KEY)
    calls.assert_problem(dropped.get(url), 403, "bad_signature")
    calls.assert_problem(put(dropped, upload, b"data"), 403, "bad_signature")
    # The new key signs.
    objects = rotated.application.extensions["services"].objects
    assert dropped.get(objects.signed_url("outputs/a.mp4", expires_s=60)).data == b"clip"


def test_a_process_that_is_not_restarted_yet_accepts_the_new_key(serve, rotated):
    """First everybody accepts the new key, then everybody signs with it."""
    prepared = serve(previous_secret_key=NEW_KEY)
    objects = rotated.application.extensions["services"].objects
    objects.put("outputs/a.mp4", b"clip", "video/mp4")
    assert prepared.get(objects.signed_url("outputs/a.mp4", expires_s=60)).data == b"clip"


def test_sessions_of_the_previous_key_last_until_it_is_dropped(anonymous, api_key, serve, rotated):
    def session(client):
        return client.get("/v1/session").get_json()["key"]

    anonymous.post("/v1/session", json={"api_key": api_key}, headers=OWN)
    cookie = anonymous.get_cookie("stillmotion").value
    dropped = serve(secret_key=NEW_KEY)
    for client in (rotated, dropped):
        client.set_cookie("stillmotion", cookie)
    assert session(rotated)["name"] == "test"
    assert session(dropped) is None
    rotated.post("/v1/session", json={"api_key": api_key}, headers=OWN)
    dropped.set_cookie("stillmotion", rotated.get_cookie("stillmotion").value)
    assert session(dropped)["name"] == "test"


@pytest.mark.parametrize(
    "command",
    [
        ("gunicorn", "-c", "python:app.gunicorn_conf", "-b", "127.0.0.1:0", "app.wsgi:app"),
        ("app.dispatcher",),
        ("workers.cpu",),
    ],
)
def test_a_guessable_key_ends_the_start_with_78(settings, command):
    environment = services.environment(settings) | {"SECRET_KEY": "change-me-" * 4}
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        cwd=services.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (78, "")
    [line] = ended.stderr.splitlines()
    assert "SECRET_KEY: looks guessable; make one with: python -c" in line
    assert "change-me" not in line
