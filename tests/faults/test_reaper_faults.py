"""The reaper's patience with a database that loses a call now and then."""

import time

import pytest

from app.domain.job.lease import LEASE_S
from scripts.benchmarks.harness.valve import Valve
from tests.support import make

pytestmark = pytest.mark.slow


@pytest.fixture
def database(settings):
    valve = Valve(settings.database_url)
    yield valve
    valve.close()


def test_lost_calls_do_not_renew_the_leases_of_dead_workers(fleet, database):
    """A connection that breaks for a moment gives no worker a reason to be late."""
    worker = fleet.worker(noop_step_s=5.0).wait_ready()
    started = time.monotonic()
    fleet.dispatcher(database_url=database.through)
    job_id = fleet.submit(steps=20)
    fleet.wait(job_id, "processing")
    worker.kill()
    make.backdate(fleet.store, job_id, "lease_until")
    for at_s in (12.0, 26.0):
        time.sleep(max(0.0, started + at_s - time.monotonic()))
        # Several, so that each of the dispatcher's threads meets one.
        for _ in range(8):
            database.cut()
            time.sleep(0.25)
    assert fleet.read(job_id).state == "processing", "taken back before one lease time of answers"
    left_s = started + LEASE_S + 10.0 - time.monotonic()
    job = fleet.wait(job_id, "queued", timeout_s=left_s)
    assert make.attempts_of(fleet.store, job_id)[0].outcome == "lost"
    assert job.begun == 1
