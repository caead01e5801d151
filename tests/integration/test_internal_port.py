"""The internal port of every process: alive, ready, metrics; and nowhere else."""

import socket
import subprocess
import sys

import httpx
import pytest

from tests.support import services
from tests.support.fleet import fleet as make_fleet


@pytest.fixture
def fleet(settings, store, tmp_path):
    with make_fleet(settings, store, tmp_path) as fleet:
        yield fleet


@pytest.mark.parametrize(
    ("kind", "own", "foreign"),
    [
        ("dispatcher", "placements", "attempts_ended"),
        ("worker", "attempts_ended", "controller_leading"),
        ("cpu_worker", "messages_dropped", "submits"),
    ],
)
def test_every_process_says_that_it_is_alive_and_ready_and_has_metrics(fleet, kind, own, foreign):
    port = services.free_port()
    getattr(fleet, kind)(internal_port=port)
    url = f"http://127.0.0.1:{port}"
    services.wait_until(lambda: httpx.get(f"{url}/readyz").is_success)
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    ready = httpx.get(f"{url}/readyz").json()
    assert ready["status"] == "ok"
    assert set(ready["parts"].values()) == {"ok"}
    metrics = httpx.get(f"{url}/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain")
    assert f"stillmotion_{own}_total" in metrics.text
    assert f"stillmotion_{foreign}" not in metrics.text, "a metric that this process never writes"
    assert "_created" not in metrics.text
    assert httpx.head(f"{url}/healthz").status_code == 200
    assert httpx.get(f"{url}/").status_code == 404
    assert httpx.post(f"{url}/healthz").status_code == 501


def test_a_process_without_its_database_is_alive_but_not_ready(fleet):
    port = services.free_port()
    lost = f"postgresql://app@127.0.0.1:{services.free_port()}/none"
    fleet.cpu_worker(internal_port=port, database_url=lost)
    url = f"http://127.0.0.1:{port}"
    services.wait_until(lambda: httpx.get(f"{url}/healthz").is_success)
    ready = httpx.get(f"{url}/readyz", timeout=20)
    assert ready.status_code == 503
    assert ready.json()["parts"]["database"] == "database_unavailable"


def test_the_api_s_port_has_metrics_and_its_public_one_has_none(change):
    config = change(
        public_url=f"http://127.0.0.1:{services.free_port()}", internal_port=services.free_port()
    )
    with services.gunicorn(config) as url:
        internal = f"http://127.0.0.1:{config.internal_port}"
        assert httpx.get(f"{internal}/healthz").json() == {"status": "ok"}
        assert httpx.get(f"{internal}/readyz").json() == httpx.get(f"{url}/readyz").json()
        assert "stillmotion_submit_seconds" in httpx.get(f"{internal}/metrics").text
        assert httpx.get(f"{url}/metrics").status_code == 404


def test_many_half_sent_requests_do_not_end_it(fleet):
    port = services.free_port()
    fleet.cpu_worker(internal_port=port)
    url = f"http://127.0.0.1:{port}"
    services.wait_until(lambda: httpx.get(f"{url}/healthz").is_success)
    opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    services.wait_until(lambda: httpx.get(f"{url}/healthz").is_success)
    for sock in opened:
        sock.close()


@pytest.mark.parametrize(
    "command",
    [
        ["app.dispatcher"],
        ["workers.cpu"],
        ["gunicorn", "-c", "python:app.gunicorn_conf", "-b", "127.0.0.1:0", "app.wsgi:app"],
    ],
)
def test_a_port_that_is_taken_is_said_in_one_sentence(change, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=services.environment(change(internal_port=port)),
            cwd=services.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 78, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert f"INTERNAL_PORT: cannot listen on 127.0.0.1:{port}: Address already in use." in last
