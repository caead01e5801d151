"""Webhooks from a job's end to a receiver: real database, broker, CPU worker and HTTP server."""

import json
import statistics
import time

import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

from app.dispatcher.deliveries import POLL_S
from app.domain.errors import Permanent
from app.domain.job.messages import DELIVER, WEBHOOKS_QUEUE
from app.domain.webhooks import secret_for
from app.store.job import attempts, jobs, reaping
from app.store.webhooks import deliveries
from app.store.webhooks.deliveries import Due
from tests.support import make, services
from tests.support.cpu_worker import cpu_worker
from tests.support.hooks import (
    delivery_of,
    end_job,
    make_due,
    seconds_until_due,
    wait_recorded,
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def _worker(session_settings, module_receiver, tmp_path_factory):
    """The log of one CPU worker for all of these tests. Starting takes it seconds."""
    log = tmp_path_factory.mktemp("worker") / "cpu.log"
    config = session_settings.model_copy(update={"outbound_allow": module_receiver.address})
    with cpu_worker(config, log):
        yield log


@pytest.fixture
def receiver(module_receiver):
    module_receiver.requests.clear()
    module_receiver.answers.clear()
    return module_receiver


@pytest.fixture
def log(_worker):
    """A function that returns what the worker has logged in this test."""
    before = len(_worker.read_text())
    return lambda: _worker.read_text()[before:]


@pytest.fixture
def owner(_worker, store):
    return make.owner(store)


def test_each_end_of_a_job_is_announced_once_and_the_signature_verifies(
    store, settings, owner, receiver, start_loop
):
    ends = {}
    for state in ("succeeded", "failed", "canceled", "expired"):
        ends[state] = make.submit(
            store, owner, webhook_url=receiver.url(f"/{state}"), labels={"n": "é"}, prompt=state
        )
    with store.begin() as tx:
        jobs.cancel(tx, ends["canceled"], owner_id=owner)
    make.backdate(store, ends["expired"], "queue_deadline")
    with store.begin() as tx:
        reaping.reap_deadlines(tx)
    with store.begin() as tx:
        for placed in make.place(tx, "noop", "us-east", "us-east", ["a", "b"]):
            make.begin(tx, placed.job_id, placed.fence, worker="gpu-1a2b3c4d@host-of-ours")
            if placed.job_id == ends["succeeded"]:
                key = f"outputs/{placed.job_id}/{placed.fence}.mp4"
                assert attempts.finish(
                    tx, placed.job_id, placed.fence, key, 10, lease_token=make.LEASE
                )
            else:
                error = Permanent("It cannot be rendered.")
                attempts.fail(
                    tx,
                    placed.job_id,
                    placed.fence,
                    error,
                    delay_s=0,
                    next_region="us-east",
                    lease_token=make.LEASE,
                )

    start_loop()

    for state, job_id in ends.items():
        [(headers, body, _)] = receiver.wait(f"/{state}")
        message = Webhook(secret_for(settings.secret_key, owner)).verify(body, headers)
        assert message["type"] == f"job.{state}"
        job = message["data"]["job"]
        assert (job["id"], job["prompt"], job["metadata"]) == (str(job_id), state, {"n": "é"})
        assert headers["webhook-id"] == str(delivery_of(store, job_id).id)
        assert headers["content-type"] == "application/json"
        assert b"host-of-ours" not in body
        assert {each["worker"] for each in job["attempts"]} <= {"gpu-1a2b3c4d"}
        delivery = wait_recorded(store, job_id)
        assert delivery.delivered_at is not None
        assert (delivery.tries, delivery.last_status, delivery.last_error) == (1, 204, None)
    assert all(len(requests) == 1 for requests in receiver.requests.values())


def test_a_failed_delivery_is_retried_with_the_same_id(
    store, settings, owner, receiver, start_loop
):
    receiver.answers["/flaky"] = [(500, {}), (200, {})]
    loop = start_loop()
    job_id = end_job(store, owner, webhook_url=receiver.url("/flaky"))
    loop.kick()
    failed = wait_recorded(store, job_id)
    assert (failed.last_status, failed.last_error, failed.delivered_at) == (500, "http_500", None)
    wait_s = seconds_until_due(store, job_id)
    assert 3 < wait_s <= 5.5

    make_due(store, job_id)
    (first, _, _), (second, body, _) = receiver.wait("/flaky", 2)
    assert first["webhook-id"] == second["webhook-id"]
    Webhook(secret_for(settings.secret_key, owner)).verify(body, second)
    services.wait_until(lambda: delivery_of(store, job_id).delivered_at is not None)
    assert delivery_of(store, job_id).tries == 2


def test_a_throttling_receiver_gets_the_time_it_asks_for(store, owner, receiver, start_loop):
    receiver.answers["/busy"] = [(429, {"Retry-After": "600"})]
    start_loop()
    job_id = end_job(store, owner, webhook_url=receiver.url("/busy"))
    wait_recorded(store, job_id)
    assert 590 < seconds_until_due(store, job_id) <= 600


def test_gone_ends_the_delivery_and_a_redirect_is_not_followed(store, owner, receiver, start_loop):
    receiver.answers["/gone"] = [(410, {})]
    receiver.answers["/moved"] = [(302, {"Location": receiver.url("/elsewhere")})]
    start_loop()
    gone = end_job(store, owner, webhook_url=receiver.url("/gone"))
    moved = end_job(store, owner, webhook_url=receiver.url("/moved"))
    assert wait_recorded(store, gone).given_up_at is not None
    delivery = wait_recorded(store, moved)
    assert (delivery.last_status, delivery.delivered_at, delivery.given_up_at) == (302, None, None)
    assert not receiver.requests["/elsewhere"]
    with store.autocommit() as conn:
        due = Due(delivery_of(store, gone).id, 1)
        assert deliveries.begin(conn, due) is None, "nothing begins a delivery that was given up"


def test_the_tenth_failure_is_the_last(store, owner, receiver, start_loop):
    receiver.answers["/broken"] = [(500, {})]
    job_id = end_job(store, owner, webhook_url=receiver.url("/broken"))
    with store.autocommit() as conn:
        conn.execute(
            text("UPDATE webhook_deliveries SET tries = 9 WHERE job_id = :id"), {"id": job_id}
        )
    start_loop()
    delivery = wait_recorded(store, job_id, tries=10)
    assert delivery.given_up_at is not None
    assert len(receiver.requests["/broken"]) == 1


def test_doubled_messages_deliver_once(store, owner, receiver, publisher):
    job_id = end_job(store, owner, webhook_url=receiver.url("/once"))
    for _ in range(20):
        args = [str(delivery_of(store, job_id).id), 0]
        publisher.send(DELIVER, args, queue=WEBHOOKS_QUEUE)
    services.wait_until(lambda: delivery_of(store, job_id).delivered_at is not None)
    last = end_job(store, owner, webhook_url=receiver.url("/last"))
    publisher.send(DELIVER, [str(delivery_of(store, last).id), 0], queue=WEBHOOKS_QUEUE)
    receiver.wait("/last")
    assert len(receiver.requests["/once"]) == 1


def test_two_dispatchers_deliver_each_of_many_once(store, owner, receiver, start_loop):
    loops = [start_loop(), start_loop()]
    ended = [end_job(store, owner, webhook_url=receiver.url(f"/many/{n}")) for n in range(60)]
    for loop in loops:
        loop.kick()
    services.wait_until(lambda: all(delivery_of(store, job_id).delivered_at for job_id in ended))
    assert [len(receiver.requests[f"/many/{n}"]) for n in range(60)] == [1] * 60


def test_a_workers_log_names_the_host_of_a_webhook_only(store, owner, receiver, log, start_loop):
    receiver.answers["/secret-path?token=hunter2"] = [(500, {})]
    start_loop()
    url = receiver.url("/secret-path?token=hunter2")
    wait_recorded(store, end_job(store, owner, webhook_url=url))
    services.wait_until(lambda: "webhook_tried" in log())
    [line] = [json.loads(each) for each in log().splitlines() if "webhook_tried" in each]
    assert (line["host"], line["status"], line["outcome"]) == ("127.0.0.1", 500, "retry")
    assert "hunter2" not in log()
    assert "secret-path" not in log()


def test_an_end_is_announced_long_before_the_next_poll(store, owner, receiver, start_loop):
    loop = start_loop()
    took = []
    for n in range(20):
        job_id = make.submit(store, owner, webhook_url=receiver.url(f"/{n}"))
        with store.begin() as tx:
            jobs.cancel(tx, job_id, owner_id=owner)
        began = time.monotonic()
        loop.kick()
        [(_, _, arrived)] = receiver.wait(f"/{n}")
        took.append(arrived - began)
    print(f"end to receipt: p50 {statistics.median(took) * 1e3:.0f} ms, max {max(took):.3f} s")
    assert statistics.median(took) < POLL_S / 4
