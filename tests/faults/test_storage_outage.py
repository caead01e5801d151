"""An outage of object storage for everybody fails no job."""

import time

import pytest

from scripts.benchmarks.harness.storage import Storage
from tests.support import make
from tests.support.fleet import fleet as make_fleet

OUTAGE_S = 15.0


@pytest.fixture
def storage(tmp_path):
    storage = Storage(tmp_path)
    yield storage
    storage.back()


@pytest.fixture
def fleet(storage, change, store, tmp_path):
    with make_fleet(change(objects_url=storage.url), store, tmp_path) as fleet:
        yield fleet


def test_an_outage_of_storage_fails_no_accepted_job(fleet, storage):
    fleet.dispatcher()
    for _ in range(2):
        fleet.worker().wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    storage.away()
    gone = time.monotonic()
    jobs = [fleet.submit() for _ in range(3)]
    while time.monotonic() - gone < OUTAGE_S:
        ended = {job: fleet.read(job).state for job in jobs}
        assert "failed" not in ended.values(), (ended, time.monotonic() - gone)
        time.sleep(0.25)
    storage.back()
    for job_id in jobs:
        job = fleet.wait(job_id, "succeeded", timeout_s=40)
        assert make.attempts_of(fleet.store, job_id)[-1].outcome == "succeeded"
        assert fleet.objects.get(job.output_key)


def test_after_an_outage_of_storage_jobs_run_within_seconds(fleet, storage):
    """The pool must not stay out for longer than the storage."""
    fleet.dispatcher()
    for _ in range(2):
        fleet.worker().wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    storage.away()
    for _ in range(6):
        fleet.submit()
    time.sleep(6)
    storage.back()
    back = time.monotonic()
    fresh = fleet.submit()
    fleet.wait(fresh, "succeeded", timeout_s=10)
    assert time.monotonic() - back < 8.0
