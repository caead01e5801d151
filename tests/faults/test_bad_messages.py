"""What cannot be read is dropped and counted; nothing that received it ends.

A worker that dies of a message leaves it to the next one, which dies of it too.
"""

import os

import httpx
import kombu
import pytest

from app.broker import keys
from app.domain.job.messages import HOUSEKEEPING_QUEUE, WEBHOOKS_QUEUE
from app.domain.routing.topology import Pool
from scripts.stack import StackError
from tests.support import junk, services
from tests.support.fleet import fleet as make_fleet
from tests.support.rabbitmq import rabbitmq

pytestmark = pytest.mark.timeout(300)

QUEUE = Pool("us-east", "noop").queue


@pytest.fixture
def amqp_fleet(change, store, tmp_path):
    try:
        with (
            rabbitmq() as broker,
            make_fleet(change(broker_url=broker.url), store, tmp_path) as fleet,
        ):
            yield fleet
    except StackError as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}, and CI needs it")
        pytest.skip(str(missing))


def dropped(port, where):
    """How much a process has dropped, according to its metrics."""
    page = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    name = f'stillmotion_messages_dropped_total{{where="{where}"}} '
    return sum(float(line[len(name) :]) for line in page.splitlines() if line.startswith(name))


def start(fleet, receiver):
    """A dispatcher, a GPU worker and a CPU worker, and the first two's ports for metrics."""
    ports = services.free_port(), services.free_port()
    started = [
        fleet.dispatcher(internal_port=ports[0]),
        fleet.worker(internal_port=ports[1]).wait_ready(),
        fleet.cpu_worker(outbound_allow=receiver.address),
    ]
    flows(fleet, receiver, "/before")
    return started, ports


def flows(fleet, receiver, path):
    """A job is placed at once, rendered once, and announced."""
    job_id = fleet.submit(webhook_url=receiver.url(path))
    assert fleet.wait(job_id, "succeeded", timeout_s=60).begun == 1
    receiver.wait(path, timeout_s=60)


def test_on_valkey(fleet, receiver):
    processes, (dispatcher, worker) = start(fleet, receiver)
    wake_ups = [b"\xff\xfe", b"", b"x" * 10_000, b"idle:nowhere/nothing#1", b"idle:#", b"[]"]
    for text in wake_ups:
        assert fleet.redis.publish(keys.WAKE, text) == 1
    fleet.redis.rpush(keys.WAKE_UPS, *wake_ups)
    for command in (b"5", b"null", b"[]", b"{}", b"\xff", b'{"properties": 1}'):
        assert fleet.redis.publish("/0.celery.pidbox", command) == 2
    for name in (keys.report("us-east"), keys.refused("us-east"), keys.TABLE, keys.CONTROLS):
        fleet.redis.set(name, b"\xff\xfe")
    fleet.redis.hset(keys.served(Pool("us-west", "noop")), "jobs", "many")
    raw = junk.entries()
    for queue in (QUEUE, WEBHOOKS_QUEUE, HOUSEKEEPING_QUEUE):
        fleet.redis.lpush(queue, *raw)
    sent = junk.publish_all(fleet.settings.redis_url, QUEUE)
    junk.publish_all(fleet.settings.redis_url, WEBHOOKS_QUEUE)
    fleet.redis.hset("unacked", "tag", b"\xff")
    fleet.redis.zadd("unacked_index", {"tag": 1.0})

    def consumed():
        return not any(map(fleet.redis.llen, (QUEUE, WEBHOOKS_QUEUE, HOUSEKEEPING_QUEUE)))

    services.wait_until(consumed, timeout_s=60)
    flows(fleet, receiver, "/after")
    assert all(process.alive for process in processes)
    assert dropped(worker, "queue") == len(raw) + sent
    # By Celery's main loop, which reads one of them a turn.
    services.wait_until(lambda: dropped(worker, "control") >= 4, timeout_s=60)
    assert dropped(dispatcher, "wake") == 2 * (len(wake_ups) - 2)
    # Kept for a dead worker's messages; nothing of this may stay among them.
    services.wait_until(lambda: not fleet.redis.exists("unacked"), timeout_s=30)


def test_on_rabbitmq(amqp_fleet, receiver):
    fleet = amqp_fleet
    processes, (_, worker) = start(fleet, receiver)
    url = fleet.settings.broker_url
    sent = junk.publish_all(url, QUEUE)
    junk.publish_all(url, WEBHOOKS_QUEUE)
    with kombu.Connection(url) as connection, connection.Producer() as producer:
        for command in (b"5", b"null", b"[]", b"{}", b"\xff"):
            producer.publish(
                command,
                exchange="celery.pidbox",
                content_type="application/json",
                content_encoding="utf-8",
            )
    services.wait_until(lambda: dropped(worker, "queue") >= sent, timeout_s=60)
    flows(fleet, receiver, "/after")
    assert all(process.alive for process in processes)
