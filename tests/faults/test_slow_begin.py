"""A worker whose statements reach the database after the begin window."""

import time

import pytest

from app.domain.job.lease import BEGIN_WITHIN_S
from scripts.benchmarks.harness.valve import Valve
from tests.support import make


@pytest.fixture
def path(settings):
    valve = Valve(settings.database_url)
    yield valve
    valve.close()


def test_a_path_slower_than_the_begin_window_does_not_hold_a_job_for_ever(fleet, path):
    fleet.dispatcher()
    fleet.worker(database_url=path.through).wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    path.delay_s = BEGIN_WITHIN_S + 1.5
    job_id = fleet.submit()
    job = fleet.wait(job_id, "processing", "succeeded", timeout_s=25)
    assert job.begun == 1


def test_a_job_that_a_pool_does_not_begin_is_tried_in_another(fleet, path):
    fleet.dispatcher()
    fleet.worker(database_url=path.through).wait_ready()
    fleet.wait(fleet.submit(), "succeeded")
    path.delay_s = BEGIN_WITHIN_S + 1.5
    fleet.worker("us-west").wait_ready()
    time.sleep(1.0)
    started = time.monotonic()
    job_id = fleet.submit()
    job = fleet.wait(job_id, "succeeded", timeout_s=12)
    assert job.region == "us-west", make.attempts_of(fleet.store, job_id)
    assert time.monotonic() - started < 8.0
