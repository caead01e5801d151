"""A job that kills every worker that begins it."""

from app.domain.job.lease import LEASE_S
from tests.support import make
from tests.support.fleet import wait_for


def test_a_job_fails_after_three_dead_workers_and_others_succeed(fleet):
    """Each worker is killed as soon as the database shows that it began the poison job."""
    fleet.dispatcher()
    poison = fleet.submit(steps=400)
    others = [fleet.submit() for _ in range(4)]
    for death in range(1, 4):
        worker = fleet.worker(noop_step_s=0.02).wait_ready()
        job = fleet.wait(poison, "processing", timeout_s=30)
        assert job.begun == death
        worker.kill()
        if death == 1:
            # The reaper trusts the database only after a lease time of answers. The first worker's
            # lease expires by itself; those of the others are cut short here.
            fleet.wait(poison, "queued", "failed", timeout_s=LEASE_S + 15)
        else:
            make.backdate(fleet.store, poison, "lease_until")
            fleet.wait(poison, "queued", "failed", timeout_s=10)
    job = fleet.wait(poison, "failed")
    assert (job.error_code, job.begun) == ("attempts_exhausted", 3)
    assert [a.outcome for a in make.attempts_of(fleet.store, poison) if a.begun_at] == ["lost"] * 3
    survivor = fleet.worker(noop_step_s=0.02).wait_ready()
    for job_id in others:
        assert fleet.wait(job_id, "succeeded", timeout_s=30).begun <= 1
    wait_for(lambda: survivor.alive)
    assert survivor.outcomes(poison) == []
