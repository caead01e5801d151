"""The same protocol with RabbitMQ as broker; Valkey keeps the claims."""

import os
import time

import pytest

from app.domain.routing.topology import Pool
from scripts.stack import StackError
from tests.support import make
from tests.support.fleet import ends
from tests.support.fleet import fleet as make_fleet
from tests.support.rabbitmq import rabbitmq


@pytest.fixture(scope="module")
def broker():
    try:
        with rabbitmq() as broker:
            yield broker
    except StackError as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}, and CI needs it")
        pytest.skip(str(missing))


@pytest.fixture(params=["classic", "quorum"])
def queue_type(request):
    return request.param


@pytest.fixture
def fleet(broker, queue_type, change, store, tmp_path):
    config = change(broker_url=broker.url, broker_queue_type=queue_type)
    with make_fleet(config, store, tmp_path) as fleet:
        yield fleet


def test_messages_go_through_queues_of_the_asked_type(fleet, broker, queue_type):
    fleet.dispatcher()
    fleet.worker().wait_ready()
    assert fleet.wait(fleet.submit(), "succeeded").begun == 1
    types = broker.queue_types()
    name = f"{Pool('us-east', 'noop').queue}{'.quorum' * (queue_type == 'quorum')}"
    assert types[name] == queue_type


def test_jobs_flow_and_a_killed_broker_costs_time_only(fleet, broker):
    fleet.dispatcher(), fleet.dispatcher()
    workers = [fleet.worker(noop_step_s=0.02).wait_ready() for _ in range(2)]
    before = [fleet.submit() for _ in range(20)]
    for job_id in before:
        assert fleet.wait(job_id, "succeeded").begun == 1
    long_job = fleet.submit(steps=400)
    fleet.wait(long_job, "processing")
    broker.stop()
    meanwhile = [fleet.submit() for _ in range(5)]
    # A worker without a broker receives nothing, so it must not count as idle.
    broker.start()
    for job_id in [*meanwhile, fleet.submit()]:
        assert fleet.wait(job_id, "succeeded", timeout_s=60).begun == 1
    job = fleet.wait(long_job, "succeeded", timeout_s=30)
    assert job.begun == 1, "the cut must not have started it again"
    assert ends(long_job, *workers, last="succeeded") == ["succeeded"]
    assert make.attempts_of(fleet.store, long_job)[-1].outcome == "succeeded"


def test_a_broker_in_memory_alarm_costs_time_only(fleet, broker):
    """It takes connections, and reads nothing from those that publish."""
    fleet.dispatcher(), fleet.dispatcher()
    for _ in range(2):
        fleet.worker(noop_step_s=0.02).wait_ready()
    assert fleet.wait(fleet.submit(), "succeeded").begun == 1
    broker.control("set_vm_memory_high_watermark", "0")
    blocked = [fleet.submit() for _ in range(5)]
    time.sleep(8)
    assert {fleet.read(job_id).state for job_id in blocked} <= {"queued", "starting"}
    broker.control("set_vm_memory_high_watermark", "0.4")
    for job_id in [*blocked, fleet.submit()]:
        job = fleet.wait(job_id, "succeeded", timeout_s=60)
        assert job.begun == 1
