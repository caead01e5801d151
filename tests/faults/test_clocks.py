"""Wall clocks that are 20 minutes off, one process at a time; monotonic time is untouched."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from app.objects.local import LocalObjects
from app.store import keys
from tests.support import services
from tests.support.fleet import wait_for

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


@SIGNS
def test_a_cpu_worker_s_clock_does_not_spoil_signatures(fleet, skewed, receiver, minutes):
    """Receivers refuse a timestamp that is over five minutes off, as Standard Webhooks says."""
    fleet.dispatcher()
    skewed(minutes, fleet.cpu_worker, outbound_allow=receiver.address)
    fleet.worker().wait_ready()
    job_id = fleet.submit(webhook_url=receiver.url("/hook"))
    fleet.wait(job_id, "succeeded", timeout_s=20)
    [(headers, body, _)] = receiver.wait("/hook", timeout_s=40)
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    # The link in it expires by the clock of the API that serves it.
    output = httpx.Response(200, content=body).json()["data"]["job"]["output"]
    left_s = datetime.fromisoformat(output["expires_at"]).timestamp() - time.time()
    assert abs(left_s - fleet.settings.signed_url_s) < 60
    query = dict(httpx.URL(output["url"]).params)
    objects = LocalObjects(
        Path(fleet.settings.objects_url.removeprefix("file://")),
        (services.SECRET_KEY,),
        "http://x",
    )
    assert objects.verify(httpx.URL(output["url"]).path.removeprefix("/v1/objects/"), query)


class Api:
    """A real server with another clock, and a client with a key of its own."""

    def __init__(self, url, key):
        self.url = url
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)

    def submit(self, photo, **fields):
        data = {"model": "noop", "region": "us-east"} | {k: str(v) for k, v in fields.items()}
        files = {"image": ("a.jpg", photo, "image/jpeg")}
        answer = self.http.post("/v1/jobs", files=files, data=data)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def show(self, job):
        return self.http.get(f"/v1/jobs/{job['id']}")


@pytest.fixture
def serving(fleet, skewed, change, tmp_path):
    """A context: the API `minutes` off."""

    @contextmanager
    def serve(minutes):
        with fleet.store.begin() as tx:
            key = keys.create(tx, "test")[1]
        settings = change(public_url=f"http://127.0.0.1:{services.free_port()}")
        api = services.gunicorn(settings, tmp_path / "api.log")
        url = skewed(minutes, api.__enter__)
        client = Api(url, key)
        try:
            yield client
        finally:
            client.http.close()
            api.__exit__(None, None, None)

    return serve


def age_s(moment):
    """Seconds since a time that the API showed."""
    return time.time() - datetime.fromisoformat(moment).timestamp()


@SIGNS
def test_an_api_s_clock_neither_expires_a_job_nor_hides_a_fresh_one(fleet, serving, photo, minutes):
    """20 minutes behind, `max_queue_seconds` had passed at submit; 20 ahead, retention had."""
    with serving(minutes) as api:
        fleet.dispatcher()
        job = api.submit(photo, max_queue_seconds=300, deadline_seconds=300, retention_seconds=600)
        row = fleet.read(UUID(job["id"]))
        assert (row.queue_deadline - row.created_at).total_seconds() == 300
        assert (row.deadline - row.created_at).total_seconds() == 300
        time.sleep(3.0)
        fleet.worker().wait_ready()
        wait_for(lambda: fleet.read(row.id).state in ("succeeded", "expired"), timeout_s=30)
        shown = api.show(job)
        assert shown.status_code == 200, shown.text
        seen = shown.json()
        assert seen["state"] == "succeeded"
        # Ids grow with the same time, whichever host draws them.
        assert abs((row.id.int >> 80) / 1000 - time.time()) < 60
        for name in ("created_at", "finished_at"):
            assert -5 < age_s(seen[name]) < 60
        # A link must not outlive the clip, and must not be cut short either.
        assert -600 < age_s(seen["output"]["expires_at"]) < -540
        clip = api.http.get(httpx.URL(seen["output"]["url"]).raw_path.decode())
        assert clip.status_code == 200
        upload = api.http.post("/v1/uploads", json={"size_bytes": 9}).json()
        assert -3605 < age_s(upload["url_expires_at"]) < -3540
        today = datetime.now(UTC).date().isoformat()
        assert api.http.get("/v1/usage").json()["end"] == today


def test_a_worker_s_clock_is_not_shown(fleet, serving, skewed, photo):
    """Steps carry the time of the database, whatever the worker's date says."""
    with serving(-20) as api:
        fleet.dispatcher()
        skewed(20, fleet.worker, noop_step_s=0.3).wait_ready()
        job = api.submit(photo)
        seen = []
        with api.http.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
            for line in stream.iter_lines():
                if line.startswith("data: ") and '"at":' in line:
                    seen.append(line.partition('"at":"')[2].partition('"')[0])
                if line == "event: completed":
                    break
        assert len(seen) >= 4
        assert all(-5 < age_s(moment) < 60 for moment in seen), seen
        hops = api.show(job).json()["attempts"][0]["hops"]
        assert all(-5 < age_s(hop["at"]) < 60 for hop in hops)
