"""Submits while storage, Postgres or Redis is down are refused or accepted, but never lost."""

import socket
import time
from urllib.parse import urlsplit

import pytest

from app.api.application import create_app
from tests.support import calls, services
from tests.support.proxy import Proxy

KEY = {"Idempotency-Key": "k"}


@pytest.fixture
def deployment(change, api_key):
    """Make a client of the API with other settings."""
    made = []

    def make(**changes):
        app = create_app(change(**changes))
        made.append(app)
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
        return client

    yield make
    for app in made:
        app.extensions["services"].close()


def assert_unavailable(answer, code):
    body = calls.assert_problem(answer, 503, code)
    assert body["retryable"] is True
    assert int(answer.headers["Retry-After"]) >= 1


def test_storage_down_is_a_503_and_leaves_no_job(deployment, photo, store):
    api = deployment(objects_url="file:///dev/null/objects")
    assert_unavailable(calls.submit(api, photo, headers=KEY), "storage_unavailable")
    assert calls.rows_in(store) == 0
    assert calls.rows_in(store, "idempotency_records") == 0


def test_postgres_down_is_a_503_and_leaves_no_object(deployment, photo, objects_dir):
    api = deployment(database_url=f"postgresql://app@127.0.0.1:{services.free_port()}/none")
    assert_unavailable(calls.submit(api, photo), "database_unavailable")
    assert calls.objects_in(objects_dir) == []


@pytest.fixture
def postgres_proxy(database_url):
    at = urlsplit(database_url)
    proxy = Proxy((at.hostname, at.port))
    proxy.url = database_url.replace(f":{at.port}/", f":{proxy.port}/")
    yield proxy
    proxy.close()


def test_postgres_lost_at_the_insert_leaves_no_object(
    deployment, photo, postgres_proxy, store, objects_dir
):
    api = deployment(database_url=postgres_proxy.url)
    assert api.get("/v1/jobs").status_code == 200
    postgres_proxy.lose_answer_to(b"INSERT INTO jobs")
    assert_unavailable(calls.submit(api, photo), "database_unavailable")
    assert postgres_proxy.cuts == 1
    assert calls.rows_in(store) == 0
    assert calls.objects_in(objects_dir) == []


def test_a_lost_commit_response_loses_neither_job_nor_picture(
    deployment, photo, postgres_proxy, store, objects_dir
):
    api = deployment(database_url=postgres_proxy.url)
    assert api.get("/v1/jobs").status_code == 200
    postgres_proxy.lose_answer_to(b"COMMIT\0")  # with the \0, because BEGIN names READ COMMITTED
    assert_unavailable(calls.submit(api, photo, headers=KEY), "database_unavailable")
    again = calls.submit(api, photo, headers=KEY)
    assert again.status_code == 202
    assert again.headers["Idempotency-Replayed"] == "true"
    assert calls.rows_in(store) == 1
    assert calls.objects_in(objects_dir) == [f"inputs/{again.get_json()['id']}.jpg"]


def test_redis_down_accepts_jobs_and_shows_the_rows_own_step(deployment, photo, store):
    api = deployment(redis_url=f"redis://127.0.0.1:{services.free_port()}/0")
    answer = calls.submit(api, photo)
    assert answer.status_code == 202
    job_id = answer.get_json()["id"]
    assert api.get(f"/v1/jobs/{job_id}").get_json()["state"] == "queued"
    assert api.post(f"/v1/jobs/{job_id}/cancel").get_json()["state"] == "canceled"
    ready = api.get("/readyz")
    assert (ready.status_code, ready.get_json()["status"]) == (200, "degraded")


def test_a_redis_that_never_answers_delays_one_request_and_not_the_next(deployment, photo):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = deployment(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        calls.submit(api, photo)  # waits for Redis, and starts the picture process
        began = time.monotonic()
        assert calls.submit(api, photo).status_code == 202
        assert time.monotonic() - began < 0.4  # less than redis_timeout_s


def test_the_api_starts_while_everything_is_down_and_says_so(deployment):
    api = deployment(
        database_url=f"postgresql://app@127.0.0.1:{services.free_port()}/none",
        redis_url=f"redis://127.0.0.1:{services.free_port()}/0",
        objects_url="file:///dev/null/objects",
    )
    assert api.get("/healthz").get_json() == {"status": "ok"}
    ready = api.get("/readyz")
    assert ready.status_code == 503
    assert ready.get_json() == {
        "status": "unavailable",
        "parts": {
            "database": "database_unavailable",
            "storage": "storage_unavailable",
            "redis": "redis_unavailable",
        },
    }
