"""Wall clocks that are 20 minutes off, one process at a time; monotonic time is untouched."""

import time
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from app.store import keys
from tests.support import services
from tests.support.fleet import wait_for

pytestmark = pytest.mark.slow

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
SIGNS = pytest.mark.parametrize("minutes", [-20, 20])


# Python sleeps until a monotonic time, which libfaketime answers with EINVAL.
SLEEP = "import select, time\ntime.sleep = lambda s: select.select([], [], [], s)\n"


@pytest.fixture
def skewed(monkeypatch, tmp_path):
    """A function that starts a process with another clock."""
    services.need("faketime", LIBRARIES)
    (tmp_path / "sitecustomize.py").write_text(SLEEP)

    def start(minutes, process, *args, **changes):
        with monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(LIBRARIES[0]))
            patch.setenv("PYTHONPATH", f"{tmp_path}:{services.ROOT}")
            patch.setenv("FAKETIME", f"{minutes * 60:+d}s")
            patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            patch.setenv("DONT_FAKE_MONOTONIC", "1")
            return process(*args, **changes)

    return start


def flows(fleet, count=3):
    """Jobs run once and at once."""
    started = time.monotonic()
    for _ in range(count):
        assert fleet.wait(fleet.submit(), "succeeded", timeout_s=20).begun == 1
    return time.monotonic() - started


@SIGNS
def test_a_worker_s_clock_does_not_matter(fleet, skewed, minutes):
    fleet.dispatcher()
    skewed(minutes, fleet.worker).wait_ready()
    assert flows(fleet) < 15.0


@SIGNS
def test_a_dispatcher_s_clock_does_not_matter(fleet, skewed, minutes):
    """Also where another dispatcher is right, and each sees the other's reports and tables."""
    quick = {"controller_period_s": 1.0, "report_every_s": 0.5}
    wrong = skewed(minutes, fleet.dispatcher, **quick)
    right = fleet.dispatcher(**quick)
    fleet.worker().wait_ready()
    time.sleep(3.0)
    assert flows(fleet) < 15.0
    right.kill()
    assert flows(fleet) < 15.0
    assert wrong.alive


@pytest.mark.xfail(
    strict=True, reason="a webhook is signed with the time of the CPU worker that sends it"
)
@SIGNS
def test_a_cpu_worker_s_clock_does_not_spoil_signatures(fleet, skewed, receiver, minutes):
    """Receivers refuse a timestamp that is over five minutes off, as Standard Webhooks says."""
    fleet.dispatcher()
    skewed(minutes, fleet.cpu_worker, outbound_allow=receiver.address)
    fleet.worker().wait_ready()
    job_id = fleet.submit(webhook_url=receiver.url("/hook"))
    fleet.wait(job_id, "succeeded", timeout_s=20)
    [(headers, _, _)] = receiver.wait("/hook", timeout_s=40)
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300


@pytest.mark.xfail(strict=True, reason="max_queue_seconds counts from the API's clock")
def test_an_api_s_clock_that_is_behind_expires_no_job(fleet, skewed, change, photo, tmp_path):
    with fleet.store.begin() as tx:
        key = keys.create(tx, "test")[1]
    settings = change(public_url=f"http://127.0.0.1:{services.free_port()}")
    api = services.gunicorn(settings, tmp_path / "api.log")
    url = skewed(-20, api.__enter__)
    try:
        fleet.dispatcher()
        answer = httpx.post(
            f"{url}/v1/jobs",
            headers={"Authorization": f"Bearer {key}"},
            files={"image": ("a.jpg", photo, "image/jpeg")},
            data={"model": "noop", "region": "us-east", "max_queue_seconds": "300"},
            timeout=30,
            trust_env=False,
        )
        assert answer.status_code == 202, answer.text
        time.sleep(4.0)
        fleet.worker().wait_ready()
        job_id = UUID(answer.json()["id"])
        wait_for(lambda: fleet.read(job_id).state in ("succeeded", "expired"), timeout_s=30)
        assert fleet.read(job_id).state == "succeeded"
    finally:
        api.__exit__(None, None, None)
