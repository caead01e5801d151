"""`max_queue_seconds` limits how long a job waits, not how long it renders."""

import time

from app.domain.errors import RenderFailed
from app.store.job import attempts
from tests.support import make


def test_a_retry_after_max_queue_seconds_still_runs(fleet):
    """The job got a worker at once. A failed attempt does not count as waiting."""
    patience_s = 4.0
    job_id = fleet.submit(max_queue_s=patience_s)
    with fleet.store.begin() as tx:
        [placed] = make.place(tx, "noop", "us-east", "us-east", ["token"])
        make.begin(tx, job_id, placed.fence, worker="gone")
    fleet.worker().wait_ready()
    dispatcher = fleet.dispatcher()
    time.sleep(patience_s + 0.5)
    with fleet.store.begin() as tx:
        error = RenderFailed("device lost")
        attempts.fail(
            tx,
            job_id,
            placed.fence,
            error,
            delay_s=3.0,
            next_region="us-east",
            lease_token=make.LEASE,
        )
    job = fleet.wait(job_id, "succeeded", "expired", timeout_s=30)
    assert job.state == "succeeded", (job.error_code, make.attempts_of(fleet.store, job_id))
    assert (job.begun, dispatcher.alive) == (2, True)


def test_a_job_that_no_worker_takes_expires_in_time(fleet):
    fleet.dispatcher()
    job_id = fleet.submit(max_queue_s=2.0)
    job = fleet.wait(job_id, "expired", timeout_s=10)
    assert job.error_code == "queue_timeout"
