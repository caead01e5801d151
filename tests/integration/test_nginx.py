"""The API behind the nginx configuration in infra/nginx."""

import json
import os
import shutil
import subprocess
import time

import httpx
import pytest

from tests.support import services, sse
from tests.support.raw import Raw, head, many

CONFIG = services.ROOT / "infra/nginx/stillmotion.conf"
MAIN = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    include {folder}/stillmotion.conf;
}}
"""


@pytest.fixture(scope="module")
def _proxied(session_settings, tmp_path_factory):
    """nginx in front of an API with two working threads."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    services.need("nginx", nginx)
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    port = services.free_port()
    config = session_settings.model_copy(
        update={
            "public_url": f"http://127.0.0.1:{services.free_port()}",
            "api_threads": 2,
            "trusted_proxies": 1,
            "served_profiles": ("noop",),
        }
    )
    text = CONFIG.read_text()
    for old, new in (
        ("server 127.0.0.1:8000;", f"server {config.public_url.removeprefix('http://')};"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "stillmotion.conf").write_text(text)
    main = folder / "nginx.conf"
    # Else its workers, as another user, could not write in here.
    user = "user root;" if os.geteuid() == 0 else ""
    main.write_text(MAIN.format(folder=folder, user=user))
    checked = subprocess.run([nginx, "-t", "-c", main], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    with (
        services.gunicorn(config),
        services.process([nginx, "-c", main], stderr=subprocess.DEVNULL) as child,
    ):
        url = f"http://127.0.0.1:{port}"
        services.wait_until(lambda: httpx.get(f"{url}/healthz").is_success, child)
        yield url


@pytest.fixture
def proxied(_proxied, settings) -> str:
    return _proxied


def test_a_job_goes_through_and_its_stream_is_not_buffered(proxied, api_key, photo):
    headers = {"Authorization": f"Bearer {api_key}"}
    job = httpx.post(f"{proxied}/v1/jobs", files={"image": photo}, headers=headers, timeout=30)
    assert job.status_code == 202
    path = f"{proxied}/v1/jobs/{job.json()['id']}/events"
    with httpx.stream("GET", path, headers=headers, timeout=30) as answer:
        stream = sse.events(answer.iter_lines())
        assert next(stream).data["state"] == "queued"  # and the stream goes on
        httpx.post(f"{path.removesuffix('/events')}/cancel", headers=headers, timeout=30)
        assert [event.name for event in stream][-1] == "completed"


def test_slow_heads_and_bodies_wait_in_nginx(proxied, api_key, photo):
    body = head("POST", "/v1/jobs", api_key, Content_Type="application/json", Content_Length=60_000)
    with (
        many(proxied, 50, body, "{"),
        many(proxied, 100, "GET /v1/jobs HTTP/1.1\r\nHost: a"),
    ):
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {api_key}"}
        answer = httpx.post(
            f"{proxied}/v1/jobs", files={"image": photo}, headers=headers, timeout=30
        )
        assert answer.status_code == 202
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (head("POST", "/v1/jobs", Content_Length=50_000_000), 413, "body_too_large"),
        (f"GET /{'a' * 9000} HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
        (f"GET / HTTP/1.1\r\nHost: a\r\nA: {'b' * 9000}\r\n\r\n", 431, "headers_too_large"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
        ("hello\r\n\r\n", 400, "bad_request"),
        (head("GET", "/v1/jobs"), 401, "missing_api_key"),  # the API's own
    ],
)
def test_every_refusal_is_a_problem(proxied, sent, status, code):
    one = Raw(proxied).send(sent)
    answer = one.answer()
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = json.loads(answer.body)
    assert (body["status"], body["code"]) == (status, code)
    assert {"title", "detail", "retryable"} <= body.keys()
    one.close()


def test_an_early_refusal_reaches_a_client_that_still_sends(proxied):
    with httpx.Client(base_url=proxied, trust_env=False) as client:
        for _ in range(5):
            answer = client.post("/v1/jobs", content=b"x" * 3_000_000)
            assert (answer.status_code, answer.json()["code"]) == (401, "missing_api_key")
            assert client.get("/healthz").status_code == 200


def test_metrics_are_not_public(proxied):
    assert httpx.get(f"{proxied}/metrics").status_code == 404


def test_sign_ins_are_counted_by_the_client_s_address(proxied, client):
    """And not by what the client says in X-Forwarded-For."""
    answer = httpx.post(
        f"{proxied}/v1/session",
        json={"api_key": "x"},
        headers={"Sec-Fetch-Site": "same-origin", "X-Forwarded-For": "9.9.9.9"},
    )
    assert answer.status_code == 401
    assert client.exists("stillmotion:sign-in:127.0.0.1")
    assert not client.exists("stillmotion:sign-in:9.9.9.9")
