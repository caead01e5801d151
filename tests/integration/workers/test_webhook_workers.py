"""Deliveries that no worker takes, that a worker leaves behind, or that keep one waiting."""

import base64
import json
import signal
import statistics
import subprocess
import sys
import time

import pytest
from standardwebhooks.webhooks import Webhook

from app.broker.publish import Publisher
from app.dispatcher.deliveries import POLL_S, DeliveryLoop
from app.domain.job.messages import DELIVER, WEBHOOKS_QUEUE
from app.domain.webhooks import RECEIVER_LIMIT, TIMEOUT_S, Outcome, Verdict, secret_for
from app.store.webhooks import deliveries
from app.store.webhooks.deliveries import Due
from tests.support import make, services
from tests.support.hooks import (
    delivery_of,
    end_job,
    make_due,
    seconds_until_due,
    wait_recorded,
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def owner(store):
    return make.owner(store)


def test_a_hanging_receiver_delays_no_other(
    store, owner, receiver, other, start_worker, start_loop
):
    receiver.answers["/hangs"] = [(0, {})]
    start_worker(allow=f"{receiver.address},{other.address}")
    loop = start_loop()
    # More than a worker has threads, and all due before the other receiver's deliveries.
    stuck = [end_job(store, owner, webhook_url=receiver.url("/hangs")) for _ in range(60)]
    loop.kick()
    receiver.wait("/hangs", RECEIVER_LIMIT)

    began = time.monotonic()
    took = []
    for n in range(20):
        asked = time.monotonic()
        end_job(store, owner, webhook_url=other.url(f"/{n}"))
        loop.kick()
        [(_, _, arrived)] = other.wait(f"/{n}")
        took.append(arrived - asked)
    print(f"next to a silent receiver: p50 {statistics.median(took):.3f} s, max {max(took):.3f} s")
    assert time.monotonic() - began < TIMEOUT_S / 2, "all delivered while the other one hangs"
    assert max(took) < 2
    # The hanging receiver's deliveries wait in the database, out of the workers' way.
    hanging = [delivery_of(store, job_id) for job_id in stuck]
    assert sum(row.tries for row in hanging) == RECEIVER_LIMIT
    assert sum(row.leased_until is not None for row in hanging) == RECEIVER_LIMIT


@pytest.mark.slow  # as long as a try may last
def test_a_hanging_receiver_is_cut_off(store, owner, receiver, start_worker, start_loop):
    receiver.answers["/hangs"] = [(0, {})]
    start_worker()
    start_loop()
    job_id = end_job(store, owner, webhook_url=receiver.url("/hangs"))
    receiver.wait("/hangs")
    began = time.monotonic()
    delivery = wait_recorded(store, job_id)
    assert (delivery.last_status, delivery.last_error) == (None, "url_timeout")
    assert TIMEOUT_S - 5 < time.monotonic() - began < TIMEOUT_S + 5


def test_a_private_address_is_refused_unless_it_is_on_the_list(
    store, owner, receiver, start_worker, start_loop
):
    start_worker(allow="")
    start_loop()
    job_id = end_job(store, owner, webhook_url=receiver.url("/private"))
    delivery = wait_recorded(store, job_id)
    assert (delivery.last_error, delivery.delivered_at) == ("url_not_allowed", None)
    assert not receiver.requests["/private"]


def test_a_delivery_survives_the_worker_that_was_killed_during_it(
    store, settings, owner, receiver, start_worker, start_loop
):
    receiver.answers["/slow"] = [(0, {}), (200, {})]
    doomed = start_worker()
    loop = start_loop()
    job_id = end_job(store, owner, webhook_url=receiver.url("/slow"))
    loop.kick()
    receiver.wait("/slow")
    doomed.send_signal(signal.SIGKILL)
    doomed.wait(10)
    start_worker()
    assert delivery_of(store, job_id).delivered_at is None
    assert seconds_until_due(store, job_id) > TIMEOUT_S, "its lease still keeps others off"

    make_due(store, job_id)
    (first, _, _), (second, body, _) = receiver.wait("/slow", 2)
    assert first["webhook-id"] == second["webhook-id"]
    Webhook(secret_for(settings.secret_key, owner)).verify(body, second)
    services.wait_until(lambda: delivery_of(store, job_id).delivered_at is not None)
    assert delivery_of(store, job_id).tries == 2


def test_a_late_worker_cannot_overwrite_a_newer_try(store, owner):
    job_id = end_job(store, owner, webhook_url="https://example.com/")
    with store.autocommit() as conn:
        [due] = deliveries.lease_due(conn, limit=10)
        late = deliveries.begin(conn, due)
    make_due(store, job_id)
    with store.autocommit() as conn:
        [due] = deliveries.lease_due(conn, limit=10)
        current = deliveries.begin(conn, due)
        delivered, failed = Verdict(Outcome.DELIVERED), Verdict(Outcome.RETRY, 5.0)
        assert not deliveries.record(
            conn, late.id, late.tries, failed, status=500, error="http_500"
        )
        assert deliveries.record(conn, current.id, current.tries, delivered, status=200, error=None)
        assert not deliveries.record(
            conn, current.id, current.tries, failed, status=500, error="http_500"
        )
    delivery = delivery_of(store, job_id)
    assert delivery.delivered_at is not None
    assert delivery.last_status == 200


def test_dispatchers_neither_wait_for_each_other_nor_lease_the_same(store, owner):
    ended = {end_job(store, owner, webhook_url="https://example.com/") for _ in range(4)}
    with store.begin() as one, store.begin() as other:
        first = deliveries.lease_due(one, limit=3)
        second = deliveries.lease_due(other, limit=3)
    assert (len(first), len(second)) == (3, 1)
    assert {due.delivery_id for due in first + second} == {
        delivery_of(store, job_id).id for job_id in ended
    }


def test_messages_lost_by_the_broker_use_up_no_try(
    store, owner, receiver, client, start_worker, start_loop
):
    job_id = end_job(store, owner, webhook_url=receiver.url("/lost"))
    loop = start_loop()
    services.wait_until(lambda: client.llen(WEBHOOKS_QUEUE) == 1)
    client.delete(WEBHOOKS_QUEUE)
    start_worker()
    make_due(store, job_id)
    loop.kick()
    receiver.wait("/lost")
    services.wait_until(lambda: delivery_of(store, job_id).delivered_at is not None)
    assert delivery_of(store, job_id).tries == 1


def test_an_unpublished_delivery_is_due_again_at_once(store, settings, owner, client):
    nowhere = Publisher(settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"}))
    job_id = end_job(store, owner, webhook_url="https://example.com/")
    assert DeliveryLoop(store, nowhere, client).publish_due() == POLL_S
    delivery = delivery_of(store, job_id)
    assert seconds_until_due(store, job_id) <= 0
    assert delivery.tries == 0


def test_deliveries_that_no_worker_takes_wait_in_the_database(store, owner, publisher, client):
    ended = [end_job(store, owner, webhook_url=f"https://{n}.example.com/") for n in range(10)]
    loop = DeliveryLoop(store, publisher, client, window=4)
    for _ in range(3):
        loop.publish_due()
    assert client.llen(WEBHOOKS_QUEUE) == 4
    leased = [job_id for job_id in ended if seconds_until_due(store, job_id) > 0]
    assert len(leased) == 4
    with store.autocommit() as conn:
        for job_id in leased[:3]:
            assert deliveries.begin(conn, Due(delivery_of(store, job_id).id, 0)) is not None
    loop.publish_due()
    assert client.llen(WEBHOOKS_QUEUE) == 7


def test_a_message_contains_only_ids(store, owner, publisher, client):
    job_id = end_job(store, owner, webhook_url="https://example.com/hook?token=hunter2")
    DeliveryLoop(store, publisher, client).publish_due()
    message = json.loads(client.lindex(WEBHOOKS_QUEUE, 0))
    assert message["headers"]["task"] == DELIVER
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == ([str(delivery_of(store, job_id).id), 0], {})
    assert "hunter2" not in str(message)


def test_a_misconfigured_worker_says_so_and_exits_with_78(change):
    wrong = change(outbound_allow="no-port")
    ended = subprocess.run(
        [sys.executable, "-m", "workers.cpu"],
        env=services.environment(wrong),
        cwd=services.ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.returncode, ended.stdout) == (78, "")
    assert ended.stderr == "workers.cpu: 'no-port' is not host:port\n"
