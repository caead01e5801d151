"""Limits of keys: submits per minute, uploads per day, the best priority."""

import pytest

from app.api.application import create_app
from app.api.request.rate_limit import LEAST_UPLOAD_BYTES
from app.broker.connections import connect
from app.config.settings import Settings
from app.store import keys
from tests.support import calls, services


@pytest.fixture
def client_with(app, store):
    """A function that makes a client whose key has these limits."""

    def make(**limits):
        with store.begin() as tx:
            _, plain = keys.create(tx, "limited", **limits)
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {plain}"
        return client

    return make


@pytest.fixture
def limited(client_with):
    """A client whose key may submit three jobs a minute."""
    return client_with(submits_per_minute=3)


def upload(client, size_bytes):
    return client.post("/v1/uploads", json={"size_bytes": size_bytes})


def test_the_headers_give_the_policy_and_the_remainder(limited, photo):
    answers = [calls.submit(limited, photo) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"submits";q=3;w=60'}
    left = [answer.headers["RateLimit"].split(";") for answer in answers]
    assert [(name, r) for name, r, _ in left] == [('"submits"', f"r={n}") for n in (2, 1, 0)]
    full_in = [int(t.removeprefix("t=")) for _, _, t in left]
    assert 15 <= full_in[0] <= 20 < full_in[2] <= 60


def test_one_too_many_is_429_with_the_time_of_the_next(limited, photo, store):
    for _ in range(3):
        calls.submit(limited, photo)
    answer = calls.submit(limited, photo)
    body = calls.assert_problem(answer, 429, "rate_limited")
    assert body["retryable"] is True
    assert 1 <= int(answer.headers["Retry-After"]) <= 20
    assert answer.headers["RateLimit"].startswith('"submits";r=0;')
    assert calls.rows_in(store) == 3
    assert limited.get("/v1/jobs").status_code == 200, "only submits are counted"


def test_other_keys_are_unaffected_and_unlimited_keys_get_no_headers(limited, api, photo):
    for _ in range(4):
        calls.submit(limited, photo)
    answer = calls.submit(api, photo)
    assert answer.status_code == 202
    assert "RateLimit" not in answer.headers


def test_the_deployments_limit_is_for_keys_without_one(change, api_key, photo):
    app = create_app(change(submits_per_minute=1))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    assert [calls.submit(client, photo).status_code for _ in range(2)] == [202, 429]
    app.extensions["services"].close()


def test_without_redis_nobody_is_refused(change, api_key, photo):
    dead = f"redis://127.0.0.1:{services.free_port()}/0"
    app = create_app(change(submits_per_minute=1, redis_url=dead))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    assert [calls.submit(client, photo).status_code for _ in range(2)] == [202, 202]
    app.extensions["services"].close()


def test_a_bucket_that_is_no_number_counts_as_empty(client_with, settings, store, photo):
    """It would else be an error for as long as it lasts, and every limit in that Redis be off."""
    limited = client_with(submits_per_minute=3)
    calls.submit(limited, photo)
    redis = connect(settings.redis_url, 2.0)
    [bucket] = redis.keys("stillmotion:rate:*")
    redis.set(bucket, b"\xff")
    left = [calls.submit(limited, photo).headers.get("RateLimit", "").split(";")[1:2] for _ in "12"]
    assert left == [["r=2"], ["r=1"]]


def test_every_limit_has_a_default_and_0_switches_it_off(change, client_with, store, photo):
    """The tests' own settings switch them off; a real deployment has them."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    chosen = ("submits_per_minute", "upload_mb_per_day", "webhooks_in_flight")
    assert all(defaults[name] > 0 for name in chosen)
    app = create_app(change(submits_per_minute=1, upload_mb_per_day=1))
    with store.begin() as tx:
        _, plain = keys.create(tx, "trusted", submits_per_minute=0, upload_mb_per_day=0)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {plain}"
    answers = [calls.submit(client, photo) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert "RateLimit" not in answers[0].headers
    assert [upload(client, 900_000).status_code for _ in range(3)] == [201] * 3
    app.extensions["services"].close()


def test_uploads_are_limited_by_their_bytes_per_day(client_with):
    """Without the limit, 500 URLs for 12.5 GB were given out in 0.8 s."""
    client = client_with(upload_mb_per_day=50)
    first, second = (upload(client, 25_000_000) for _ in range(2))
    assert first.headers["RateLimit-Policy"] == '"uploads";q=50000000;w=86400;qu="content-bytes"'
    assert first.headers["RateLimit"] == '"uploads";r=25000000;t=43200'
    assert second.status_code == 201, "exactly a day's worth"
    refused = upload(client, 25_000_000)
    body = calls.assert_problem(refused, 429, "upload_limit_reached")
    assert body["retryable"] is True
    assert 40_000 < int(refused.headers["Retry-After"]) <= 43_200


def test_many_tiny_uploads_count_too(client_with):
    client = client_with(upload_mb_per_day=1)
    answers = [upload(client, 1).status_code for _ in range(1_000_000 // LEAST_UPLOAD_BYTES + 1)]
    assert answers == [201] * (len(answers) - 1) + [429]


def test_an_upload_larger_than_a_day_s_worth_is_never_accepted(client_with):
    refused = upload(client_with(upload_mb_per_day=2), 2_000_001)
    body = calls.assert_problem(refused, 413, "upload_too_large", "/size_bytes")
    assert not body["retryable"] and "2000000" in body["detail"]


@pytest.mark.parametrize(("best", "refused", "allowed"), [(1, [0], [1, 2]), (2, [0, 1], [2])])
def test_the_best_priority_is_the_keys(client_with, photo, store, best, refused, allowed):
    client = client_with(best_priority=best)
    for priority in refused:
        answer = calls.submit(client, photo, priority=priority)
        body = calls.assert_problem(answer, 422, "priority_not_allowed", "/priority")
        assert body["detail"] == f"priority: the best that this key may ask for is {best}."
        dry_run = {"image": calls.data_uri(photo), "priority": priority}
        answer = client.post("/v1/jobs?dry_run=1", json=dry_run)
        calls.assert_problem(answer, 422, "priority_not_allowed", "/priority")
    assert calls.rows_in(store) == 0
    for priority in allowed:
        answer = calls.submit(client, photo, priority=priority)
        assert (answer.status_code, answer.get_json()["priority"]) == (202, priority)
    # Whoever asks for nothing gets the best that is allowed, and not a refusal.
    assert calls.submit(client, photo).get_json()["priority"] == best


def test_a_paying_key_may_ask_for_priority_0_and_gets_1_without_asking(client_with, photo):
    client = client_with(best_priority=0)
    assert calls.submit(client, photo, priority=0).get_json()["priority"] == 0
    assert calls.submit(client, photo).get_json()["priority"] == 1


def test_the_longest_retention_is_the_deployments(change, api_key, photo):
    app = create_app(change(retention_s=3600, max_retention_s=86_400))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    answer = calls.submit(client, photo, retention_seconds=86_401)
    calls.assert_problem(answer, 422, "invalid_field", "/retention_seconds")
    assert calls.submit(client, photo, retention_seconds=86_400).status_code == 202
    app.extensions["services"].close()
