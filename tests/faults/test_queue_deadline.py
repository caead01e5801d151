"""`max_queue_seconds` bounds the time that a job waits, not the time that it renders."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from tests.support import make
from tests.support.fleet import fleet as make_fleet
from tests.support.storage import Storage


@pytest.fixture
def storage(tmp_path):
    storage = Storage(tmp_path)
    yield storage
    storage.back()


@pytest.fixture
def fleet(storage, change, store, tmp_path):
    with make_fleet(change(objects_url=storage.url), store, tmp_path) as fleet:
        yield fleet


@pytest.mark.xfail(
    strict=True, reason="the time that an attempt renders counts as time spent in the queue"
)
def test_a_retry_after_max_queue_seconds_still_runs(fleet, storage):
    """It had a worker at once; that the attempt failed later is not a wait for one."""
    fleet.dispatcher()
    fleet.worker(noop_step_s=1.0).wait_ready()
    patience = timedelta(seconds=3.0)
    job_id = fleet.submit(steps=4, queue_deadline=datetime.now(UTC) + patience)
    fleet.wait(job_id, "processing")
    storage.away()
    fleet.wait(job_id, "queued", timeout_s=30)
    with fleet.store.begin() as tx:  # a backoff as long as the third may be, so nobody is faster
        tx.execute(
            text("UPDATE jobs SET not_before = now() + interval '4 s' WHERE id = :id"),
            {"id": job_id},
        )
    storage.back()
    job = fleet.wait(job_id, "succeeded", "expired", timeout_s=60)
    assert job.state == "succeeded", (job.error_code, make.attempts_of(fleet.store, job_id))


def test_a_job_that_no_worker_takes_expires_in_time(fleet):
    fleet.dispatcher()
    job_id = fleet.submit(queue_deadline=datetime.now(UTC) + timedelta(seconds=2.0))
    job = fleet.wait(job_id, "expired", timeout_s=10)
    assert job.error_code == "queue_timeout"
