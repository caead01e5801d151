"""A killed worker loses its job long before its lease ends; a live worker never does."""

import signal
import time

import pytest

from app.broker.claims import Claims
from app.domain.job.lease import RENEW_S
from app.domain.routing.topology import Pool
from scripts.benchmarks.harness.valve import Valve
from tests.support import make
from tests.support.fleet import wait_for

BEGUN_ELSEWHERE_S = 8.0


@pytest.fixture
def valves():
    made = []

    def valve(url):
        made.append(Valve(url))
        return made[-1]

    yield valve
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("end", "renewed_s_ago"), [(signal.SIGKILL, 0.2), (signal.SIGSTOP, RENEW_S - 0.5)]
)
def test_a_dead_or_frozen_workers_job_begins_elsewhere_within_seconds(fleet, end, renewed_s_ago):
    fleet.dispatcher(), fleet.dispatcher()
    victim = fleet.worker(noop_step_s=0.5).wait_ready()
    job_id = fleet.submit(steps=60)
    fleet.wait(job_id, "processing")
    fleet.worker().wait_ready()
    lease = fleet.read(job_id).lease_until
    # Silence takes longest to detect right after a renewal.
    wait_for(lambda: fleet.read(job_id).lease_until != lease)
    time.sleep(renewed_s_ago)
    victim.signal(end)
    took_s = wait_for(lambda: fleet.read(job_id).begun == 2, timeout_s=20)
    assert took_s <= BEGUN_ELSEWHERE_S
    assert [a.outcome for a in make.attempts_of(fleet.store, job_id)] == ["lost", None]


def test_a_worker_cut_off_from_redis_keeps_its_job(fleet, settings, valves):
    path = valves(settings.redis_url)
    fleet.dispatcher()
    fleet.worker(noop_step_s=0.5, redis_url=path.through, broker_url=path.through).wait_ready()
    job_id = fleet.submit(steps=30)
    fleet.wait(job_id, "processing")
    path.silence(new=True)
    fleet.worker().wait_ready()
    assert fleet.wait(job_id, "succeeded", timeout_s=40).begun == 1


def test_a_worker_cut_off_from_the_database_for_a_while_keeps_its_job(fleet, settings, valves):
    path = valves(settings.database_url)
    fleet.dispatcher()
    fleet.worker(noop_step_s=0.5, database_url=path.through).wait_ready()
    job_id = fleet.submit(steps=30)
    fleet.wait(job_id, "processing")
    fleet.worker().wait_ready()
    path.refuse()
    time.sleep(12)
    path.heal()
    assert fleet.wait(job_id, "succeeded", timeout_s=40).begun == 1


def test_a_draining_worker_keeps_its_job(fleet):
    fleet.dispatcher()
    draining = fleet.worker(noop_step_s=0.5).wait_ready()
    job_id = fleet.submit(steps=24)
    fleet.wait(job_id, "processing")
    fleet.worker().wait_ready()
    draining.signal(signal.SIGTERM)
    assert fleet.wait(job_id, "succeeded", timeout_s=40).begun == 1


def test_only_an_ended_entry_proves_silence(fleet):
    claims, pool = Claims(fleet.redis), Pool("us-east", "noop")
    claims.show_alive(pool, "here")
    fleet.redis.zadd(f"{{{pool}}}:alive", {"gone": 1.0})
    assert claims.silent(pool, ["here", "gone", "never seen"]) == {"gone"}
    fleet.redis.flushall()
    assert claims.silent(pool, ["here", "gone"]) == set()
