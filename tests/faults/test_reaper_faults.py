"""The reaper's patience with a database that loses a call now and then."""

import time

import pytest

from app.domain.job.lease import LEASE_S
from scripts.benchmarks.harness.valve import Valve
from tests.support import make


@pytest.fixture
def paths(settings):
    """Two ways to the database: the dispatcher's and the worker's."""
    made = Valve(settings.database_url), Valve(settings.database_url)
    yield made
    for valve in made:
        valve.close()


def test_lost_calls_do_not_renew_the_leases_of_late_workers(fleet, paths):
    """A connection that breaks for a moment gives no worker a reason to be late.

    The worker is alive in Redis, so only its lease can end the attempt.
    """
    of_dispatcher, of_worker = paths
    fleet.worker(noop_step_s=5.0, database_url=of_worker.through).wait_ready()
    started = time.monotonic()
    fleet.dispatcher(database_url=of_dispatcher.through)
    job_id = fleet.submit(steps=20)
    fleet.wait(job_id, "processing")
    of_worker.refuse()
    make.backdate(fleet.store, job_id, "lease_until")
    for at_s in (12.0, 26.0):
        time.sleep(max(0.0, started + at_s - time.monotonic()))
        # Several, so that each of the dispatcher's threads meets one.
        for _ in range(8):
            of_dispatcher.cut()
            time.sleep(0.25)
    assert fleet.read(job_id).state == "processing", "taken back before one lease time of answers"
    left_s = started + LEASE_S + 10.0 - time.monotonic()
    job = fleet.wait(job_id, "queued", timeout_s=left_s)
    assert make.attempts_of(fleet.store, job_id)[0].outcome == "lost"
    assert job.begun == 1
