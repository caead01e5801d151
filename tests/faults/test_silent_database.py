"""Established connections to Postgres that fall silent while new ones work."""

import time

import httpx
import pytest
from sqlalchemy import text

from app.store import keys
from scripts.benchmarks.harness.valve import Valve
from tests.support import services
from tests.support.fleet import wait_for

PATIENCE_S = 15.0  # three times DATABASE_TIMEOUT_S


@pytest.fixture
def path(settings):
    valve = Valve(settings.database_url)
    yield valve
    valve.close()


@pytest.fixture
def api(path, change, store, tmp_path):
    """A function that submits to a real API behind the valve."""
    settings = change(
        database_url=path.through, public_url=f"http://127.0.0.1:{services.free_port()}"
    )
    with store.begin() as tx:
        key = keys.create(tx, "test")[1]
    with (
        services.gunicorn(settings, tmp_path / "api.log") as url,
        httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=PATIENCE_S * 2,
            trust_env=False,
        ) as client,
    ):
        yield client


def submit(client, photo):
    return client.post(
        "/v1/jobs",
        files={"image": ("a.jpg", photo, "image/jpeg")},
        data={"model": "noop", "region": "us-east"},
    )


def test_the_api_answers_in_time_and_recovers(api, path, photo):
    assert submit(api, photo).status_code == 202
    assert path.silence() >= 1
    started = time.monotonic()
    answers = [submit(api, photo).status_code for _ in range(3)]
    took_s = time.monotonic() - started
    assert set(answers) <= {202, 503}, answers
    assert took_s < PATIENCE_S, (took_s, answers)
    assert answers[-1] == 202


def test_a_dispatcher_resumes_placing_in_time(fleet, path):
    fleet.dispatcher(database_url=path.through)
    fleet.worker().wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    assert path.silence() >= 1
    started = time.monotonic()
    fleet.wait(fleet.submit(), "succeeded", timeout_s=PATIENCE_S * 2)
    assert time.monotonic() - started < PATIENCE_S


def test_a_worker_resumes_work_in_time(fleet, path):
    """Once at the begin of an attempt, and once in the middle of another."""
    fleet.dispatcher()
    worker = fleet.worker(database_url=path.through, noop_step_s=0.2).wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    assert path.silence() >= 1
    started = time.monotonic()
    job_id = fleet.submit(steps=20)
    fleet.wait(job_id, "processing", timeout_s=PATIENCE_S * 2)
    assert time.monotonic() - started < PATIENCE_S
    path.silence()
    started = time.monotonic()
    assert fleet.wait(job_id, "succeeded", timeout_s=PATIENCE_S * 3).begun == 1
    assert time.monotonic() - started < PATIENCE_S + 4.0
    wait_for(lambda: worker.outcomes(job_id) == ["succeeded"])


def test_another_dispatcher_leads_when_the_leader_s_connections_fell_silent(fleet, path):
    quick = {"controller_period_s": 1.0, "report_every_s": 0.5}
    fleet.dispatcher(database_url=path.through, **quick)
    fleet.worker().wait_ready()
    wait_for(lambda: fleet.redis.get("stillmotion:table"), timeout_s=30)
    fleet.dispatcher(**quick)
    time.sleep(2.0)
    path.silence()
    before = latest(fleet)
    wait_for(lambda: latest(fleet) >= before + 3, timeout_s=PATIENCE_S + 15)


def latest(fleet):
    with fleet.store.begin() as tx:
        return tx.execute(text("SELECT coalesce(max(version), 0) FROM routing_tables")).scalar_one()
