"""`Cancel-After` holds: no clip after a job's deadline, and no wait for a worker in a long step."""

import pytest

from tests.support import make
from tests.support.fleet import ends, wait_for

# Half a second is promised; the rest is for a machine that others use, too.
LATE_S = 1.0


def late_s(job) -> float:
    return (job.finished_at - job.deadline).total_seconds()


@pytest.mark.parametrize("step_s", [0.2, 3.0])
def test_a_job_ends_at_its_deadline_however_long_its_steps_are(fleet, step_s):
    worker = fleet.worker(noop_step_s=step_s).wait_ready()
    fleet.dispatcher()
    job_id = fleet.submit(steps=30, deadline_s=30)
    fleet.wait(job_id, "processing")
    with fleet.store.begin() as tx:
        tx.exec_driver_sql("UPDATE jobs SET deadline = now() + interval '1 s'")
    job = fleet.wait(job_id, "canceled", timeout_s=10)
    assert job.error_code == "deadline_exceeded"
    assert late_s(job) < LATE_S
    [attempt] = make.attempts_of(fleet.store, job_id)
    assert attempt.outcome == "canceled"
    wait_for(lambda: worker.outcomes(job_id))
    following = fleet.submit()
    assert fleet.wait(following, "succeeded").region == "us-east", "the worker is free again"


def test_a_waiting_job_expires_at_its_deadline(fleet):
    fleet.dispatcher()
    warm = fleet.submit(deadline_s=0.1)
    fleet.wait(warm, "expired")  # the dispatcher runs
    waits = fleet.submit(deadline_s=1.2)
    job = fleet.wait(waits, "expired", timeout_s=10)
    assert job.error_code == "deadline_exceeded"
    assert late_s(job) < LATE_S


def test_without_a_dispatcher_the_worker_stops_by_itself(fleet):
    worker = fleet.worker(noop_step_s=0.3).wait_ready()
    dispatcher = fleet.dispatcher()
    fleet.wait(fleet.submit(steps=1), "succeeded")  # the dispatcher runs
    job_id = fleet.submit(steps=12, deadline_s=2.5)
    fleet.wait(job_id, "processing")
    dispatcher.kill()
    job = fleet.wait(job_id, "canceled", "succeeded", timeout_s=10)
    assert (job.state, job.error_code) == ("canceled", "deadline_exceeded")
    assert late_s(job) < LATE_S + 0.3
    assert ends(job_id, worker, last="canceled") == ["canceled"]
