"""The limit on submits per minute: headers on every response, 429 beyond it."""

import pytest

from app.api.application import create_app
from app.store import keys
from tests.support import calls, services


@pytest.fixture
def limited(app, store):
    """A client whose key may submit three jobs a minute."""
    with store.begin() as tx:
        _, plain = keys.create(tx, "limited", submits_per_minute=3)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {plain}"
    return client


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
