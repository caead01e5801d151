"""Webhooks from a job's end to a receiver: real database, broker, CPU worker and HTTP server."""

import base64
import json
import signal
import statistics
import subprocess
import sys
import time

import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

from app.broker.publish import Publisher
from app.dispatcher.deliveries import POLL_S, DeliveryLoop
from app.domain.errors import Permanent
from app.domain.job.messages import DELIVER, WEBHOOKS_QUEUE
from app.domain.webhooks import RECEIVER_LIMIT, TIMEOUT_S, Outcome, Verdict, secret_for
from app.store.job import attempts, jobs, reaping
from app.store.webhooks import deliveries
from app.store.webhooks.deliveries import Due
from tests.support import make, services

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def owner(store):
    return make.owner(store)


def ended_job(store, owner, url):
    """Cancel a waiting job, the shortest way to an end that owes a webhook."""
    job_id = make.submit(store, owner, webhook_url=url)
    with store.begin() as tx:
        jobs.cancel(tx, job_id, owner_id=owner)
    return job_id


def delivery_of(store, job_id):
    with store.autocommit() as conn:
        return conn.execute(
            text("SELECT * FROM webhook_deliveries WHERE job_id = :id"), {"id": job_id}
        ).one()


def make_due(store, job_id):
    """End the wait for the next try, or a lease."""
    with store.autocommit() as conn:
        conn.execute(
            text("UPDATE webhook_deliveries SET next_at = now() WHERE job_id = :id"),
            {"id": job_id},
        )


def wait_recorded(store, job_id, tries=1):
    """The delivery once try number `tries` is recorded."""

    def recorded():
        row = delivery_of(store, job_id)
        return row.tries >= tries and (row.last_status is not None or row.last_error is not None)

    services.wait_until(recorded, timeout_s=TIMEOUT_S + 10)
    return delivery_of(store, job_id)


def test_each_end_of_a_job_is_announced_once_and_the_signature_verifies(
    store, settings, owner, receiver, start_worker, start_loop
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

    start_worker()
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
    store, settings, owner, receiver, start_worker, start_loop
):
    receiver.answers["/flaky"] = [(500, {}), (200, {})]
    start_worker()
    loop = start_loop()
    job_id = ended_job(store, owner, receiver.url("/flaky"))
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


def seconds_until_due(store, job_id):
    with store.autocommit() as conn:
        return float(
            conn.execute(
                text(
                    "SELECT extract(epoch FROM next_at - now()) FROM webhook_deliveries"
                    " WHERE job_id = :id"
                ),
                {"id": job_id},
            ).scalar_one()
        )


def test_a_throttling_receiver_gets_the_time_it_asks_for(
    store, owner, receiver, start_worker, start_loop
):
    receiver.answers["/busy"] = [(429, {"Retry-After": "600"})]
    start_worker()
    start_loop()
    job_id = ended_job(store, owner, receiver.url("/busy"))
    wait_recorded(store, job_id)
    assert 590 < seconds_until_due(store, job_id) <= 600


def test_gone_ends_the_delivery_and_a_redirect_is_not_followed(
    store, owner, receiver, start_worker, start_loop
):
    receiver.answers["/gone"] = [(410, {})]
    receiver.answers["/moved"] = [(302, {"Location": receiver.url("/elsewhere")})]
    start_worker()
    start_loop()
    gone = ended_job(store, owner, receiver.url("/gone"))
    moved = ended_job(store, owner, receiver.url("/moved"))
    assert wait_recorded(store, gone).given_up_at is not None
    delivery = wait_recorded(store, moved)
    assert (delivery.last_status, delivery.delivered_at, delivery.given_up_at) == (302, None, None)
    assert not receiver.requests["/elsewhere"]
    with store.autocommit() as conn:
        due = Due(delivery_of(store, gone).id, 1)
        assert deliveries.begin(conn, due) is None, "nothing begins a delivery that was given up"


def test_the_tenth_failure_is_the_last(store, owner, receiver, start_worker, start_loop):
    receiver.answers["/broken"] = [(500, {})]
    job_id = ended_job(store, owner, receiver.url("/broken"))
    with store.autocommit() as conn:
        conn.execute(
            text("UPDATE webhook_deliveries SET tries = 9 WHERE job_id = :id"), {"id": job_id}
        )
    start_worker()
    start_loop()
    delivery = wait_recorded(store, job_id, tries=10)
    assert delivery.given_up_at is not None
    assert len(receiver.requests["/broken"]) == 1


def test_a_hanging_receiver_is_cut_off_and_delays_no_other(
    store, owner, receiver, other, start_worker, start_loop
):
    receiver.answers["/hangs"] = [(0, {})]
    start_worker(allow=f"{receiver.address},{other.address}")
    loop = start_loop()
    # More than a worker has threads, and all due before the other receiver's deliveries.
    stuck = [ended_job(store, owner, receiver.url("/hangs")) for _ in range(60)]
    loop.kick()
    receiver.wait("/hangs", RECEIVER_LIMIT)

    began = time.monotonic()
    took = []
    for n in range(20):
        asked = time.monotonic()
        ended_job(store, owner, other.url(f"/{n}"))
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

    begun = [row.job_id for row in hanging if row.tries]
    for job_id in begun:
        delivery = wait_recorded(store, job_id)
        assert (delivery.last_status, delivery.last_error) == (None, "url_timeout")
    assert time.monotonic() - began < TIMEOUT_S + 5


def test_a_private_address_is_refused_unless_it_is_on_the_list(
    store, owner, receiver, start_worker, start_loop
):
    start_worker(allow="")
    start_loop()
    job_id = ended_job(store, owner, receiver.url("/private"))
    delivery = wait_recorded(store, job_id)
    assert (delivery.last_error, delivery.delivered_at) == ("url_not_allowed", None)
    assert not receiver.requests["/private"]


def test_a_delivery_survives_the_worker_that_was_killed_during_it(
    store, settings, owner, receiver, start_worker, start_loop
):
    receiver.answers["/slow"] = [(0, {}), (200, {})]
    doomed = start_worker()
    loop = start_loop()
    job_id = ended_job(store, owner, receiver.url("/slow"))
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
    job_id = ended_job(store, owner, "https://example.com/")
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
    ended = {ended_job(store, owner, "https://example.com/") for _ in range(4)}
    with store.begin() as one, store.begin() as other:
        first = deliveries.lease_due(one, limit=3)
        second = deliveries.lease_due(other, limit=3)
    assert (len(first), len(second)) == (3, 1)
    assert {due.delivery_id for due in first + second} == {
        delivery_of(store, job_id).id for job_id in ended
    }


def test_doubled_messages_deliver_once(store, owner, receiver, start_worker, publisher):
    job_id = ended_job(store, owner, receiver.url("/once"))
    start_worker()
    for _ in range(20):
        args = [str(delivery_of(store, job_id).id), 0]
        publisher.send(DELIVER, args, queue=WEBHOOKS_QUEUE)
    services.wait_until(lambda: delivery_of(store, job_id).delivered_at is not None)
    last = ended_job(store, owner, receiver.url("/last"))
    publisher.send(DELIVER, [str(delivery_of(store, last).id), 0], queue=WEBHOOKS_QUEUE)
    receiver.wait("/last")
    assert len(receiver.requests["/once"]) == 1


def test_two_dispatchers_deliver_each_of_many_once(
    store, owner, receiver, start_worker, start_loop
):
    start_worker()
    loops = [start_loop(), start_loop()]
    ended = [ended_job(store, owner, receiver.url(f"/many/{n}")) for n in range(60)]
    for loop in loops:
        loop.kick()
    services.wait_until(lambda: all(delivery_of(store, job_id).delivered_at for job_id in ended))
    assert [len(receiver.requests[f"/many/{n}"]) for n in range(60)] == [1] * 60


def test_messages_lost_by_the_broker_use_up_no_try(
    store, owner, receiver, client, start_worker, start_loop
):
    job_id = ended_job(store, owner, receiver.url("/lost"))
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
    job_id = ended_job(store, owner, "https://example.com/")
    assert DeliveryLoop(store, nowhere, client).publish_due() == POLL_S
    delivery = delivery_of(store, job_id)
    assert seconds_until_due(store, job_id) <= 0
    assert delivery.tries == 0


def test_deliveries_that_no_worker_takes_wait_in_the_database(store, owner, publisher, client):
    ended = [ended_job(store, owner, f"https://{n}.example.com/") for n in range(10)]
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
    job_id = ended_job(store, owner, "https://example.com/hook?token=hunter2")
    DeliveryLoop(store, publisher, client).publish_due()
    message = json.loads(client.lindex(WEBHOOKS_QUEUE, 0))
    assert message["headers"]["task"] == DELIVER
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == ([str(delivery_of(store, job_id).id), 0], {})
    assert "hunter2" not in str(message)


def test_a_workers_log_names_the_host_of_a_webhook_only(
    store, owner, receiver, log, start_worker, start_loop
):
    receiver.answers["/secret-path?token=hunter2"] = [(500, {})]
    start_worker()
    start_loop()
    wait_recorded(store, ended_job(store, owner, receiver.url("/secret-path?token=hunter2")))
    services.wait_until(lambda: "webhook_tried" in log.read_text())
    [line] = [x for x in services.log_lines(log) if x.get("event") == "webhook_tried"]
    assert (line["host"], line["status"], line["outcome"]) == ("127.0.0.1", 500, "retry")
    assert "hunter2" not in log.read_text()
    assert "secret-path" not in log.read_text()


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


def test_an_end_is_announced_long_before_the_next_poll(
    store, owner, receiver, start_worker, start_loop
):
    start_worker()
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
