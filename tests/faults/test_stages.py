"""A worker that prepares, renders and delivers at once: killed, drained, hung, out of storage."""

import signal
import time
from uuid import UUID

import pytest

from app.broker import progress
from app.domain.job.lease import LEASE_S
from app.store.job import jobs
from scripts.benchmarks.harness.storage import Storage
from scripts.benchmarks.harness.valve import Valve
from tests.support import make, s3
from tests.support.fleet import fleet as make_fleet
from tests.support.fleet import wait_for
from tests.support.gpu_worker import held_worker
from workers.gpu.stages import Stage

TAKEN_BACK_S = LEASE_S + 25  # and every lost job then runs alone
STEPS = 4


def stages_of(fleet) -> set[str]:
    """The stages that jobs are in, as their rows and their steps show."""
    return {stage_of(fleet, *job) for job in make.processing(fleet.store)}


def stage_of(fleet, job_id: UUID, fence: int, steps: int) -> str:
    step = progress.read(fleet.redis, job_id, fence)
    if step is None:
        return "prepares"
    return "renders" if step < steps else "delivers"


def outputs(fleet) -> list[str]:
    return [info.key for info in fleet.objects.list("outputs/")]


def each_succeeded_once(fleet, job_ids, timeout_s=30.0):
    ended = [fleet.wait(job_id, "succeeded", timeout_s=timeout_s) for job_id in job_ids]
    assert sorted(outputs(fleet)) == sorted(job.output_key for job in ended)
    return ended


@pytest.fixture
def slow(change, store, tmp_path):
    """A fleet whose storage takes 0.3 s a call, so that an attempt prepares that long."""
    with s3.s3_server(delay_s=0.3) as endpoint_url:
        config = change(objects_url=s3.BUCKET_URL, s3_endpoint_url=endpoint_url)
        with make_fleet(config, store, tmp_path) as fleet:
            yield fleet


SLOWLY = {"noop_step_s": 0.25, "noop_encode_s": 0.6}  # a second a render, so all stages overlap


@pytest.mark.parametrize("stage", ["prepares", "renders", "delivers"])
def test_a_worker_killed_in_any_stage_loses_and_doubles_nothing(slow, stage):
    fleet = slow
    fleet.dispatcher(), fleet.dispatcher()
    victim = fleet.worker(**SLOWLY).wait_ready()
    job_ids = [fleet.submit(steps=STEPS) for _ in range(12)]
    fleet.wait(job_ids[1], "succeeded")  # from here on it foresees the end of a render
    wait_for(lambda: stage in stages_of(fleet))
    victim.kill()
    fleet.worker().wait_ready()
    for job in each_succeeded_once(fleet, job_ids, TAKEN_BACK_S):
        assert job.begun <= 2


def test_a_draining_worker_ends_what_it_has_begun_in_every_stage(slow):
    fleet = slow
    fleet.dispatcher()
    worker = fleet.worker(**SLOWLY).wait_ready()
    job_ids = [fleet.submit(steps=STEPS) for _ in range(60)]
    fleet.wait(job_ids[1], "succeeded")
    wait_for(lambda: stages_of(fleet) == {"prepares", "renders", "delivers"}, timeout_s=40)
    worker.signal(signal.SIGTERM)
    assert worker.wait_exit(timeout_s=20) == 0
    states = [fleet.read(job_id) for job_id in job_ids]
    assert {job.state for job in states} <= {"succeeded", "queued"}
    ended = [job for job in states if job.state == "succeeded"]
    assert all(job.begun == 1 for job in ended)
    assert len(outputs(fleet)) == len(ended)


def test_a_prepared_attempt_is_canceled_without_the_gpu(fleet, settings):
    ids = [fleet.submit(seed=seed) for seed in (1, 2)]
    with fleet.store.begin() as tx:
        fences = {each.job_id: each.fence for each in make.place(tx, "noop", *EAST, ["t1", "t2"])}
    with held_worker(settings) as held:
        held.take(ids[0], fences[ids[0]])
        assert held.engine.rendering.wait(10)
        held.take(ids[1], fences[ids[1]])
        wait_for(lambda: fleet.read(ids[1]).state == "processing")
        assert held.stage(ids[1]) is Stage.PREPARES
        with fleet.store.begin() as tx:
            job = jobs.cancel(tx, ids[1], owner_id=fleet.owner)
        progress.ask_stop(fleet.redis, ids[1], job.fence)
        assert fleet.wait(ids[1], "canceled", timeout_s=5)
        assert held.stage(ids[0]) is Stage.RENDERS
        held.engine.go_on.set()
        fleet.wait(ids[0], "succeeded")
        assert held.engine.rendered == [1]
    assert held.outcomes == {ids[0]: "succeeded", ids[1]: "canceled"}


EAST = ("us-east", "us-east")


def test_a_delivery_that_hangs_ends_the_process_and_takes_no_other_job_along(fleet):
    """The stall limit is 20 s. The jobs beside the hung one are handed back and do not count."""
    fleet.dispatcher(), fleet.dispatcher()
    stuck = fleet.worker(noop_step_s=0.1, noop_encode_s=60).wait_ready()
    job_ids = [fleet.submit(steps=STEPS) for _ in range(6)]
    assert stuck.wait_exit(timeout_s=40) == 70
    begun = [job_id for job_id in job_ids if make.attempts_of(fleet.store, job_id)]
    assert len(begun) <= 4
    fleet.worker().wait_ready()
    ended = each_succeeded_once(fleet, job_ids, TAKEN_BACK_S)
    assert sum(job.begun > 1 for job in ended) == 1
    codes = [a.error_code for job_id in begun for a in make.attempts_of(fleet.store, job_id)]
    assert codes.count("handed_back") == len(begun) - 1


@pytest.fixture
def storage(tmp_path):
    storage = Storage(tmp_path)
    yield storage
    storage.back()


def test_read_only_storage_stops_a_worker_after_two_undelivered_clips(
    change, store, storage, tmp_path
):
    """Two deliver, one has rendered: they wait for the storage, and no further job is begun."""
    with make_fleet(change(objects_url=storage.url), store, tmp_path) as fleet:
        fleet.dispatcher()
        fleet.worker(noop_step_s=0.05).wait_ready()
        fleet.wait(fleet.submit(), "succeeded")
        storage.read_only()
        job_ids = [fleet.submit() for _ in range(10)]
        time.sleep(8)
        begun = [job_id for job_id in job_ids if fleet.read(job_id).begun]
        assert 2 <= len(begun) <= 4
        storage.back()
        for job_id in job_ids:
            assert fleet.wait(job_id, "succeeded").begun == 1


def test_storage_that_hangs_in_a_delivery_loses_nothing(change, store, tmp_path):
    with s3.s3_server() as endpoint_url:
        path = Valve(f"{endpoint_url}/")
        config = change(objects_url=s3.BUCKET_URL, s3_endpoint_url=path.through.removesuffix("/"))
        with make_fleet(config, store, tmp_path) as fleet:
            fleet.dispatcher()
            fleet.worker(noop_step_s=0.05, noop_encode_s=0.3).wait_ready()
            job_ids = [fleet.submit() for _ in range(8)]
            wait_for(lambda: "delivers" in stages_of(fleet))
            path.silence(new=True)
            time.sleep(5)
            states = [fleet.read(job_id) for job_id in job_ids]
            ended = sum(job.state == "succeeded" for job in states)
            assert sum(bool(job.begun) for job in states) <= 4 + ended
            path.heal()
            for job_id in job_ids:
                assert fleet.wait(job_id, "succeeded", timeout_s=40).begun == 1
        path.close()
