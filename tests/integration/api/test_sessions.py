"""Sign-in by cookie: what it opens, what ends it, and that no other site can use it."""

import pytest
from itsdangerous import URLSafeTimedSerializer

from app.api.application import create_app
from app.api.request import session_cookie
from app.api.routes.sessions import ATTEMPTS
from app.store import keys
from tests.support import calls

OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def sign_in(anonymous):
    def send(key, headers=OWN):
        return anonymous.post("/v1/session", json={"api_key": key}, headers=headers)

    return send


def test_a_session_works_like_its_key(sign_in, anonymous, api_key, photo):
    assert anonymous.get("/v1/session").get_json()["key"] is None
    answer = sign_in(api_key)
    assert answer.get_json()["key"]["name"] == "test"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Secure" not in cookie
    assert api_key not in cookie
    assert calls.submit(anonymous, photo, headers=OWN).status_code == 202
    assert len(anonymous.get("/v1/jobs").get_json()["data"]) == 1

    anonymous.delete("/v1/session", headers=OWN)
    calls.assert_problem(anonymous.get("/v1/jobs"), 401, "missing_api_key")


def test_over_tls_the_cookie_is_for_this_host_only(change, api_key):
    app = create_app(change(public_url="https://clips.example"))
    try:
        client = app.test_client()
        answer = client.post("/v1/session", json={"api_key": api_key}, headers=OWN)
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-") and "Secure" in cookie and "Path=/" in cookie
    finally:
        app.extensions["services"].close()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://localhost.evil.example"},
    ],
)
def test_another_site_cannot_use_the_session(sign_in, anonymous, api_key, photo, store, headers):
    calls.assert_problem(sign_in(api_key, headers), 403, "cross_site_request")
    sign_in(api_key)
    answer = calls.submit(anonymous, photo, headers=headers)
    calls.assert_problem(answer, 403, "cross_site_request")
    assert calls.rows_in(store) == 0
    # A browser never adds a key by itself.
    bearer = {"Authorization": f"Bearer {api_key}"}
    assert calls.submit(anonymous, photo, headers=headers | bearer).status_code == 202


def test_browsers_that_send_only_an_origin_are_accepted(sign_in, anonymous, api_key, settings):
    assert sign_in(api_key, {"Origin": "http://localhost"}).status_code == 200  # the Host
    assert sign_in(api_key, {"Origin": settings.public_url}).status_code == 200


def test_a_revoked_key_ends_its_sessions(sign_in, anonymous, store):
    with store.begin() as tx:
        key_id, plain = keys.create(tx, "test")
    sign_in(plain)
    with store.begin() as tx:
        keys.revoke(tx, key_id)
    calls.assert_problem(anonymous.get("/v1/jobs"), 401, "invalid_session")
    assert anonymous.get("/v1/session").get_json()["key"] is None


def test_a_forged_or_old_cookie_is_refused(sign_in, anonymous, api_key, store, monkeypatch):
    with store.begin() as tx:
        key_id, _ = keys.create(tx, "test")
    anonymous.set_cookie("stillmotion", URLSafeTimedSerializer("guess").dumps(key_id.hex))
    calls.assert_problem(anonymous.get("/v1/jobs"), 401, "invalid_session")
    sign_in(api_key)
    monkeypatch.setattr(session_cookie, "SESSION_S", -1)
    calls.assert_problem(anonymous.get("/v1/jobs"), 401, "invalid_session")


@pytest.mark.parametrize("key", ["sm_unknown", "no key at all", "sm_" + "\N{SNOWMAN}" * 30])
def test_a_wrong_key_is_refused_without_an_echo(sign_in, key):
    answer = sign_in(key)
    calls.assert_problem(answer, 401, "invalid_api_key", "/api_key")
    assert key not in answer.get_data(as_text=True)
    assert "Set-Cookie" not in answer.headers


def test_a_failed_sign_in_says_what_is_wrong(anonymous):
    def send(**options):
        return anonymous.post("/v1/session", headers=OWN, **options)

    calls.assert_problem(send(json={"key": "sm_x"}), 422, "unknown_field", "/key")
    calls.assert_problem(send(json={"api_key": 7}), 422, "invalid_field", "/api_key")
    calls.assert_problem(send(data="{"), 400, "invalid_json")


def test_behind_a_proxy_each_client_has_attempts_of_its_own(change):
    app = create_app(change(trusted_proxies=1))
    try:

        def attempt(address):
            headers = OWN | {"X-Forwarded-For": f"10.0.0.1, {address}"}
            answer = app.test_client().post("/v1/session", json={"api_key": "x"}, headers=headers)
            return answer.status_code

        assert {attempt("192.0.2.1") for _ in range(ATTEMPTS)} == {401}
        assert (attempt("192.0.2.1"), attempt("192.0.2.2")) == (429, 401)
    finally:
        app.extensions["services"].close()


def test_attempts_are_limited_whether_right_or_wrong(sign_in, api_key):
    for _ in range(ATTEMPTS):
        assert sign_in("sm_wrong").status_code == 401
    answer = sign_in(api_key)
    body = calls.assert_problem(answer, 429, "too_many_attempts")
    assert body["retryable"] is True
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
