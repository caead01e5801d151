"""Workers that die, freeze, warm up, drain or lose their connections in the middle of a job."""

import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.broker import progress
from app.domain.job.lease import LEASE_S
from app.store.job import jobs
from tests.support import make
from tests.support.fleet import ends, wait_for

TAKEN_BACK_S = LEASE_S + 10  # lease, the reaper's own patience with the database, a tick


def outputs(settings):
    """Every clip in object storage."""
    root = Path(settings.objects_url.removeprefix("file://"), "outputs")
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.mp4"))


def test_a_killed_worker_s_job_is_finished_once_by_another(fleet):
    fleet.dispatcher(), fleet.dispatcher()
    victim = fleet.worker(noop_step_s=0.5).wait_ready()
    job_id = fleet.submit(steps=20)
    fleet.wait(job_id, "processing")
    victim.kill()
    survivor = fleet.worker().wait_ready()
    job = fleet.wait(job_id, "succeeded", timeout_s=TAKEN_BACK_S + 15)
    assert (job.begun, job.output_key) == (
        2,
        f"outputs/{job_id}/{job.fence}-{job.lease_token}.mp4",
    )
    assert outputs(fleet.settings) == [job.output_key.removeprefix("outputs/")]
    assert [a.outcome for a in make.attempts_of(fleet.store, job_id)] == ["lost", "succeeded"]
    assert ends(job_id, survivor, last="succeeded") == ["succeeded"]


def test_a_worker_frozen_past_its_lease_changes_nothing_when_it_wakes(fleet):
    fleet.dispatcher(), fleet.dispatcher()
    zombie = fleet.worker(noop_step_s=0.3).wait_ready()
    job_id = fleet.submit(steps=20)
    fleet.wait(job_id, "processing")
    zombie.signal(signal.SIGSTOP)
    fleet.worker().wait_ready()
    job = fleet.wait(job_id, "succeeded", timeout_s=TAKEN_BACK_S + 15)
    before = outputs(fleet.settings)
    zombie.signal(signal.SIGCONT)
    wait_for(lambda: zombie.outcomes(job_id) or not zombie.alive, timeout_s=30)
    assert zombie.outcomes(job_id) in ([], ["superseded"])
    assert fleet.read(job_id) == job
    assert outputs(fleet.settings) == before == [job.output_key.removeprefix("outputs/")]


def test_a_stuck_render_ends_its_process_and_the_job_is_done_by_another(fleet):
    fleet.dispatcher()
    stuck = fleet.worker(noop_step_s=60).wait_ready()  # longer than the stall limit of 20 s
    job_id = fleet.submit()
    fleet.wait(job_id, "processing")
    fleet.worker().wait_ready()
    assert stuck.wait_exit(timeout_s=30) == 70
    assert fleet.wait(job_id, "succeeded", timeout_s=TAKEN_BACK_S + 15).begun == 2


def test_a_worker_gets_nothing_while_it_warms_up(fleet):
    fleet.dispatcher()
    slow = fleet.worker(noop_warm_up_s=15)
    job_id = fleet.submit()
    started = time.monotonic()
    while time.monotonic() - started < 14:
        assert fleet.read(job_id).fence == 0, "placed on a worker that is not warm"
        time.sleep(0.25)
    slow.wait_ready()
    assert fleet.wait(job_id, "succeeded").fence == 1


@pytest.mark.parametrize("told", ["by SIGTERM", "by a file"])
def test_a_drained_worker_finishes_its_job_and_takes_no_other(fleet, tmp_path, told):
    fleet.dispatcher()
    notice = tmp_path / "this machine goes"
    worker = fleet.worker(noop_step_s=0.5, drain_file=notice).wait_ready()
    running = fleet.submit(steps=8)
    fleet.wait(running, "processing")
    if told == "by a file":
        notice.touch()
        wait_for(lambda: any(line.get("event") == "drain_file_found" for line in worker.log))
    else:
        worker.signal(signal.SIGTERM)
    waiting = fleet.submit()
    assert worker.wait_exit(timeout_s=20) == 0
    assert fleet.read(running).state == "succeeded"
    assert fleet.read(waiting).fence == 0


def test_a_worker_that_starts_where_it_is_to_drain_ends_while_it_loads(fleet, tmp_path):
    worker = fleet.worker(noop_warm_up_s=60, drain_file=tmp_path)
    assert worker.wait_exit(timeout_s=30) == 0


def test_cancel_stops_the_render_within_a_step(fleet):
    fleet.dispatcher()
    worker = fleet.worker(noop_step_s=1.0).wait_ready()
    job_id = fleet.submit(steps=50)
    fleet.wait(job_id, "processing")
    with fleet.store.begin() as tx:
        job = jobs.cancel(tx, job_id, owner_id=fleet.owner)
    progress.ask_stop(fleet.redis, job_id, job.fence)
    asked = time.monotonic()
    fleet.wait(job_id, "canceled", timeout_s=5)
    assert time.monotonic() - asked < 2.5
    assert ends(job_id, worker, last="canceled") == ["canceled"]
    assert outputs(fleet.settings) == []


def ports_of(pid):
    """Local TCP ports of a process's connections."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
        except OSError:
            continue
        if found:
            inodes.add(found[1])
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[9] in inodes}


def cut_redis(fleet, worker):
    """CLIENT KILL on every Redis connection of one process; returns how many there were."""
    ports, killed = ports_of(worker.pid), 0
    for client in fleet.redis.client_list():
        if int(client["addr"].rsplit(":", 1)[1]) in ports:
            killed += fleet.redis.client_kill_filter(_id=client["id"])
    return killed


def test_a_busy_worker_cut_from_its_broker_never_holds_up_a_message(fleet):
    """After the cut the busy worker takes its own message again, and may take another's too."""
    fleet.dispatcher(), fleet.dispatcher()
    workers = [fleet.worker(noop_step_s=0.25).wait_ready() for _ in range(2)]
    long_job = fleet.submit(steps=60)
    fleet.wait(long_job, "processing")
    [attempt] = make.attempts_of(fleet.store, long_job)
    busy = next(
        worker for worker in workers if any(attempt.worker in str(line) for line in worker.log)
    )
    waits = []
    for _ in range(5):
        assert cut_redis(fleet, busy) > 0
        job_id = fleet.submit()
        fleet.wait(job_id, "succeeded", timeout_s=15)
        placed_to_begun = [
            (a.begun_at - fleet.read(job_id).created_at).total_seconds()
            for a in make.attempts_of(fleet.store, job_id)
            if a.begun_at
        ]
        waits.append(max(placed_to_begun))
    assert max(waits) <= 3.0, waits
    assert fleet.wait(long_job, "succeeded", timeout_s=30).begun == 1


def test_redis_flushed_under_load_loses_and_doubles_nothing(fleet):
    fleet.dispatcher(), fleet.dispatcher()
    for _ in range(2):
        fleet.worker(noop_step_s=0.01).wait_ready()
    with ThreadPoolExecutor(1) as threads:
        made = threads.submit(lambda: [(fleet.submit(), time.sleep(0.02))[0] for _ in range(120)])
        for _ in range(6):
            time.sleep(0.7)
            fleet.redis.flushall()
        job_ids = made.result()
    for job_id in job_ids:
        assert fleet.wait(job_id, "succeeded", timeout_s=60).begun == 1
    assert len(outputs(fleet.settings)) == len(job_ids)


def test_a_region_whose_storage_fails_hands_the_job_to_another(fleet, tmp_path):
    fleet.dispatcher()
    not_a_directory = tmp_path / "file"
    not_a_directory.write_text("")
    fleet.worker("us-east", objects_url=f"file://{not_a_directory}/objects").wait_ready()
    fleet.worker("us-west").wait_ready()
    job_id = fleet.submit()
    job = fleet.wait(job_id, "succeeded", timeout_s=30)
    assert (job.region, job.begun) == ("us-west", 2)
    first, *_ = make.attempts_of(fleet.store, job_id)
    assert (first.region, first.outcome, first.error_code) == (
        "us-east",
        "failed",
        "object_missing",
    )
