"""Webhooks as resources, delivered: real API, database, broker, CPU worker and receivers."""

import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.api.application import create_app
from app.domain.webhooks import RECEIVER_LIMIT
from app.store import keys
from app.store.job import reaping
from app.store.webhooks import deliveries
from tests.support import calls, make, services
from tests.support.fleet import fleet as make_fleet
from tests.support.hooks import create, end_job, listed, update, wait_state

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def open_api(change, api_key, receiver, other):
    """An API that lets its callers register the test's receivers."""
    app = create_app(change(outbound_allow=f"{receiver.address},{other.address}"))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    yield client
    app.extensions["services"].close()


@pytest.fixture
def sending(start_worker, start_loop, receiver, other):
    """A CPU worker and a dispatcher's loop; returns the loop."""
    start_worker(allow=f"{receiver.address},{other.address}")
    return start_loop()


def test_each_address_gets_its_chosen_events_under_its_own_secret(
    open_api, store, settings, caller, receiver, other, sending
):
    every = create(open_api, receiver.url("/all"))
    failed = create(open_api, other.url("/failed"), events=["job.failed", "job.expired"])
    own = open_api.get("/v1/webhooks/secret").get_json()["secret"]

    quiet = end_job(
        store, caller, webhook_url=receiver.url("/quiet"), webhook_events=["job.succeeded"]
    )
    loud = end_job(
        store, caller, webhook_url=receiver.url("/loud"), webhook_events=["job.canceled"]
    )
    late = make.submit(store, caller)
    make.backdate(store, late, "queue_deadline")
    with store.begin() as tx:
        reaping.reap_deadlines(tx)
    sending.kick()

    bodies = {
        Webhook(every["secret"]).verify(body, headers)["data"]["job"]["id"]
        for headers, body, _ in receiver.wait("/all", 3)
    }
    assert bodies == {str(quiet), str(loud), str(late)}
    [(headers, body, _)] = receiver.wait("/loud")
    assert Webhook(own).verify(body, headers)["type"] == "job.canceled"
    [(headers, body, _)] = other.wait("/failed")
    assert Webhook(failed["secret"]).verify(body, headers)["type"] == "job.expired"
    with pytest.raises(WebhookVerificationError):
        Webhook(every["secret"]).verify(body, headers)
    wait_state(open_api, "delivered", 5)
    assert not receiver.requests["/quiet"]


def test_nothing_is_sent_for_a_deleted_job_and_its_receiver_is_not_blamed(
    open_api, store, caller, receiver, sending
):
    hook = create(open_api, receiver.url("/all"))
    gone = end_job(store, caller)
    assert open_api.delete(f"/v1/jobs/{gone}").status_code == 204
    sending.kick()
    [delivery] = wait_state(open_api, "failed")
    assert delivery["last_error"] == "job_deleted"
    assert open_api.get(f"/v1/webhooks/{hook['id']}").get_json()["disabled_at"] is None
    assert not receiver.requests["/all"]


@pytest.mark.parametrize("kind", ["endpoint", "jobs"])
def test_during_a_rotation_both_secrets_verify_and_then_only_the_new_one(
    open_api, store, caller, receiver, sending, kind
):
    if kind == "endpoint":
        where = f"/v1/webhooks/{create(open_api, receiver.url('/hook'))['id']}/secret"
        changes = {}
    else:
        where, changes = "/v1/webhooks/secret", {"webhook_url": receiver.url("/hook")}
    old = open_api.get(where).get_json()
    assert old["previous_secret_until"] is None
    new = open_api.post(f"{where}/rotate", json={"grace_seconds": 600}).get_json()
    assert new["secret"] != old["secret"]
    assert open_api.get(where).get_json() == new
    assert new["previous_secret_until"] is not None
    refused = open_api.post(f"{where}/rotate")
    calls.assert_problem(refused, 409, "rotation_under_way", "/grace_seconds")

    end_job(store, caller, sending, **changes)
    [(headers, body, _)] = receiver.wait("/hook")
    for secret in (old["secret"], new["secret"]):
        assert Webhook(secret).verify(body, headers)["type"] == "job.canceled"

    # A leaked secret stops at once, in the middle of a rotation.
    third = open_api.post(f"{where}/rotate", json={"grace_seconds": 0}).get_json()
    assert third["previous_secret_until"] is None
    end_job(store, caller, sending, **changes)
    _, (headers, body, _) = receiver.wait("/hook", 2)
    Webhook(third["secret"]).verify(body, headers)
    for secret in (old["secret"], new["secret"]):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers)


def test_gone_disables_the_endpoint_and_gives_up_its_deliveries(
    open_api, store, caller, receiver, sending
):
    receiver.answers["/gone"] = [(410, {}), (204, {})]
    hook = create(open_api, receiver.url("/gone"))
    path = f"/v1/webhooks/{hook['id']}"
    # Pending but not due, so that only the other one is tried.
    end_job(store, caller)
    update(store, "UPDATE webhook_deliveries SET next_at = now() + interval '1 hour'")
    end_job(store, caller, sending)
    wait_state(open_api, "failed", 2)
    errors = {delivery["last_error"] for delivery in listed(open_api)}
    assert errors == {"http_410", "webhook_disabled"}
    shown = open_api.get(path).get_json()
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "gone")
    assert len(receiver.requests["/gone"]) == 1

    end_job(store, caller, sending)
    assert len(listed(open_api)) == 2, "nothing is owed to a disabled endpoint"
    calls.assert_problem(open_api.post(f"{path}/test"), 409, "webhook_disabled")
    [one, _] = listed(open_api)
    again = open_api.post(f"/v1/webhooks/deliveries/{one['id']}/redeliver")
    calls.assert_problem(again, 409, "webhook_disabled")

    open_api.patch(path, json={"enabled": True})
    end_job(store, caller, sending)
    wait_state(open_api, "delivered", 1)


@pytest.mark.parametrize("took_one", [False, True])
def test_an_endpoint_that_fails_a_whole_schedule_is_disabled_unless_it_took_others(
    open_api, store, caller, receiver, sending, took_one
):
    receiver.answers["/broken"] = [(500, {})]
    hook = create(open_api, receiver.url("/broken"))
    failing = end_job(store, caller)
    late = "now() + interval '1 hour'"
    update(store, f"UPDATE webhook_deliveries SET tries = 9, next_at = {late}")
    if took_one:
        end_job(store, caller)
        update(
            store,
            "UPDATE webhook_deliveries SET delivered_at = now() WHERE job_id <> :id",
            id=failing,
        )
    update(store, "UPDATE webhook_deliveries SET next_at = now() WHERE job_id = :id", id=failing)
    sending.kick()
    [delivery] = wait_state(open_api, "failed", job_id=failing)
    assert (delivery["tries"], delivery["last_status"]) == (10, 500)
    shown = open_api.get(f"/v1/webhooks/{hook['id']}").get_json()
    assert shown["enabled"] is took_one
    assert shown["disabled_reason"] == (None if took_one else "failing")


def test_a_test_event_is_sent_once_and_its_outcome_can_be_seen(
    open_api, store, receiver, other, sending
):
    receiver.answers["/bad"] = [(500, {})]
    good, bad = create(open_api, other.url("/good")), create(open_api, receiver.url("/bad"))
    sent = open_api.post(f"/v1/webhooks/{good['id']}/test")
    assert sent.status_code == 202
    assert sent.get_json()["event"] == "webhook.test"
    [(headers, body, _)] = other.wait("/good")
    message = Webhook(good["secret"]).verify(body, headers)
    assert message["type"] == "webhook.test"
    assert message["data"] == {"webhook_id": good["id"]}
    services.wait_until(
        lambda: open_api.get(sent.headers["Location"]).get_json()["state"] == "delivered"
    )

    open_api.post(f"/v1/webhooks/{bad['id']}/test")
    [failed] = wait_state(open_api, "failed", webhook_id=bad["id"])
    assert (failed["tries"], failed["last_status"], failed["job_id"]) == (1, 500, None)
    assert open_api.get(f"/v1/webhooks/{bad['id']}").get_json()["enabled"] is True


def test_a_delivery_can_be_made_again_under_its_own_id(open_api, store, caller, receiver, sending):
    receiver.answers["/hook"] = [(204, {}), (500, {}), (204, {})]
    create(open_api, receiver.url("/hook"))
    end_job(store, caller, sending)
    [delivery] = wait_state(open_api, "delivered")
    path = f"/v1/webhooks/deliveries/{delivery['id']}"
    again = open_api.post(f"{path}/redeliver")
    assert again.status_code == 202
    assert (again.get_json()["state"], again.get_json()["delivered_at"]) == ("pending", None)
    first, second = receiver.wait("/hook", 2)
    assert first[0]["webhook-id"] == second[0]["webhook-id"] == delivery["id"]
    # It failed and waits for its second try. A redelivery is requested before that.
    services.wait_until(lambda: open_api.get(path).get_json()["last_status"] == 500)
    waiting = open_api.get(path).get_json()
    assert (waiting["state"], waiting["tries"]) == ("pending", 2)
    assert open_api.post(f"{path}/redeliver").status_code == 202
    receiver.wait("/hook", 3)
    [delivered] = wait_state(open_api, "delivered")
    assert (delivered["tries"], delivered["last_error"]) == (3, None)


def test_a_receivers_backlog_leaves_room_for_every_other(store, caller):
    """10,000 due deliveries to one receiver, then one to each of 40 others."""
    job_id = make.submit(store, caller)
    due = (
        "INSERT INTO webhook_deliveries (job_id, owner_id, event, url, next_at)"
        " SELECT :job, :owner, 'job.failed', {url}, now() - interval '{age}'"
        " FROM generate_series(1, :n) AS n"
    )
    with store.begin() as tx:
        tx.execute(text("SET LOCAL statement_timeout = '60s'"))
        for url, age, n in (
            ("'https://Silent.example/' || n", "1 hour", 10_000),
            ("'https://' || n || '.example/hook'", "1 second", 40),
        ):
            tx.execute(text(due.format(url=url, age=age)), {"job": job_id, "owner": caller, "n": n})
        tx.execute(text("ANALYZE webhook_deliveries"))
    with store.engine.connect().execution_options(isolation_level="READ COMMITTED") as tx:
        explained = tx.execute(
            text(f"EXPLAIN (ANALYZE, FORMAT JSON) {deliveries.LEASE_ANY.text}"),
            {"limit": 256, "each": RECEIVER_LIMIT, "per_owner": 0, "lease": 60},
        ).scalar_one()
        tx.rollback()
    assert rows_read(explained[0]["Plan"]) < 500
    with store.autocommit() as conn:
        unlimited = {"per_owner": 0}
        silent = (caller, "https://silent.example/any")
        first = deliveries.lease_due(conn, limit=256, **unlimited)
        assert len(first) == 40 + RECEIVER_LIMIT
        assert deliveries.lease_due(conn, limit=256, **unlimited) == []
        assert deliveries.lease_next(conn, *silent, **unlimited) is None
        # One try ends, which makes room for exactly one more.
        update(
            store,
            "UPDATE webhook_deliveries SET delivered_at = now(), leased_until = NULL"
            " WHERE id = (SELECT id FROM webhook_deliveries"
            "   WHERE url LIKE 'https://Silent%' AND leased_until IS NOT NULL LIMIT 1)",
        )
        assert deliveries.lease_next(conn, *silent, **unlimited) is not None
        assert deliveries.lease_next(conn, *silent, **unlimited) is None


def rows_read(plan):
    """How many rows of deliveries an executed plan read."""
    own = 0
    if plan.get("Relation Name") == "webhook_deliveries" and "Scan" in plan["Node Type"]:
        own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return own * plan["Actual Loops"] + sum(map(rows_read, plan.get("Plans", [])))


def test_the_end_of_a_real_job_is_announced_to_an_endpoint(
    change, store, tmp_path, open_api, receiver, api_key
):
    hook = create(open_api, receiver.url("/hook"))
    with store.autocommit() as conn:
        caller = keys.find(conn, api_key).id
    config = change(outbound_allow=receiver.address)
    with make_fleet(config, store, tmp_path) as fleet:
        fleet.owner = caller
        fleet.dispatcher(), fleet.cpu_worker()
        fleet.worker().wait_ready()
        job_id = fleet.submit()
        fleet.wait(job_id, "succeeded")
        [(headers, body, _)] = receiver.wait("/hook")
    message = Webhook(hook["secret"]).verify(body, headers)
    assert (message["type"], message["data"]["job"]["id"]) == ("job.succeeded", str(job_id))
