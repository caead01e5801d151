"""Webhooks as resources: real API, database, broker, CPU worker and receivers."""

import os
import re
import socket
import sys
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.api.application import create_app
from app.domain.webhooks import RECEIVER_LIMIT
from app.store import attempts, deliveries, jobs, keys, webhook_endpoints
from app.store.deliveries import Due
from app.store.webhook_endpoints import MAX_ENDPOINTS, MAX_OPEN_TESTS
from tests import calls, make, services
from tests.fleet import fleet as make_fleet

pytestmark = pytest.mark.timeout(240)

HOOK = "https://example.com/hook"


@pytest.fixture
def owner(store, api_key):
    """The id of the API's caller."""
    with store.once() as tx:
        return keys.find(tx, api_key).id


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


def create(client, url, **fields):
    answer = client.post("/v1/webhooks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.get_data(as_text=True)
    return answer.get_json()


def end_job(store, owner, loop=None, **changes):
    """Cancel a job that waits: the shortest way to an end."""
    job_id = make.submit(store, owner, **changes)
    with store.begin() as tx:
        jobs.cancel(tx, job_id, owner_id=owner)
    if loop is not None:
        loop.kick()
    return job_id


def listed(client, **query):
    return client.get("/v1/webhooks/deliveries", query_string=query).get_json()["data"]


def wait_state(client, state, count=1, **query):
    """The deliveries that the query finds, once `count` of them are in that state."""
    services.wait_until(lambda: len(listed(client, state=state, **query)) == count)
    return listed(client, state=state, **query)


def update(store, sql, **values):
    with store.once() as tx:
        tx.execute(text(sql), values)


def test_an_endpoint_is_made_shown_changed_and_removed(api):
    made = api.post("/v1/webhooks", json={"url": HOOK, "events": ["job.failed", "job.failed"]})
    assert made.status_code == 201
    hook = made.get_json()
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", hook.pop("secret"))
    assert (hook["url"], hook["events"], hook["enabled"]) == (HOOK, ["job.failed"], True)
    path = made.headers["Location"]
    assert api.get(path).get_json() == hook
    assert api.get("/v1/webhooks").get_json()["data"] == [hook]

    changed = api.patch(path, json={"events": ["job.succeeded"], "enabled": False}).get_json()
    assert (changed["events"], changed["enabled"]) == (["job.succeeded"], False)
    assert changed["disabled_reason"] == "owner"
    again = api.patch(path, json={"enabled": True}).get_json()
    assert (again["events"], again["enabled"]) == (["job.succeeded"], True)
    assert (again["disabled_reason"], again["disabled_at"]) == (None, None)

    assert api.delete(path).status_code == 204
    calls.assert_problem(api.delete(path), 404, "webhook_not_found")
    assert api.get("/v1/webhooks").get_json()["data"] == []


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({}, 422, "missing_field", "/url"),
        ({"url": "http://example.com/"}, 422, "url_not_allowed", "/url"),
        ({"url": "https://127.0.0.1/"}, 422, "url_not_allowed", "/url"),
        ({"url": "https://me:pw@example.com/"}, 422, "url_not_allowed", "/url"),
        ({"url": 5}, 422, "invalid_field", "/url"),
        ({"url": HOOK, "events": []}, 422, "invalid_field", "/events"),
        ({"url": HOOK, "events": ["job.begun"]}, 422, "invalid_field", "/events/0"),
        ({"url": HOOK, "secret": "mine"}, 422, "unknown_field", "/secret"),
    ],
)
def test_a_bad_endpoint_is_refused_by_its_field(api, store, body, status, code, pointer):
    calls.assert_problem(api.post("/v1/webhooks", json=body), status, code, pointer)
    assert calls.rows_in(store, "webhook_endpoints") == 0


def test_what_is_no_json_is_refused(api):
    broken = api.post("/v1/webhooks", data=b"{", content_type="application/json")
    calls.assert_problem(broken, 400, "invalid_json")
    form = api.post("/v1/webhooks", data={"url": HOOK})
    calls.assert_problem(form, 415, "unsupported_media_type")


def test_one_url_is_one_endpoint_and_a_key_has_not_endlessly_many(api):
    for n in range(MAX_ENDPOINTS):
        create(api, f"https://example.com/{n}")
    again = api.post("/v1/webhooks", json={"url": HOOK})
    calls.assert_problem(again, 409, "too_many_webhooks")
    [first, *_] = api.get("/v1/webhooks").get_json()["data"]
    api.delete(f"/v1/webhooks/{first['id']}")
    double = api.post("/v1/webhooks", json={"url": "https://example.com/1"})
    calls.assert_problem(double, 409, "webhook_exists", "/url")


def test_another_owners_webhooks_are_as_unknown_as_none(api, anonymous, store, owner):
    hook = create(api, HOOK)
    end_job(store, owner)
    [delivery] = listed(api)
    with store.begin() as tx:
        stranger = {"Authorization": f"Bearer {keys.create(tx, 'stranger')[1]}"}
    for hook_id in (hook["id"], str(uuid4()), "no-uuid"):
        path = f"/v1/webhooks/{hook_id}"
        for answer in (
            anonymous.get(path, headers=stranger),
            anonymous.patch(path, headers=stranger, json={"enabled": False}),
            anonymous.delete(path, headers=stranger),
            anonymous.post(f"{path}/test", headers=stranger),
            anonymous.get(f"{path}/secret", headers=stranger),
            anonymous.post(f"{path}/secret/rotate", headers=stranger),
        ):
            calls.assert_problem(answer, 404, "webhook_not_found")
    for delivery_id in (delivery["id"], str(uuid4()), "no-uuid"):
        path = f"/v1/webhooks/deliveries/{delivery_id}"
        for answer in (
            anonymous.get(path, headers=stranger),
            anonymous.post(f"{path}/redeliver", headers=stranger),
        ):
            calls.assert_problem(answer, 404, "delivery_not_found")
    assert anonymous.get("/v1/webhooks/deliveries", headers=stranger).get_json()["data"] == []
    assert api.get(f"/v1/webhooks/{hook['id']}").get_json()["enabled"] is True


def test_each_address_hears_what_it_asked_for_under_its_own_secret(
    open_api, store, settings, owner, receiver, other, sending
):
    every = create(open_api, receiver.url("/all"))
    failed = create(open_api, other.url("/failed"), events=["job.failed", "job.expired"])
    own = open_api.get("/v1/webhooks/secret").get_json()["secret"]

    quiet = end_job(
        store, owner, webhook_url=receiver.url("/quiet"), webhook_events=["job.succeeded"]
    )
    loud = end_job(store, owner, webhook_url=receiver.url("/loud"), webhook_events=["job.canceled"])
    late = make.submit(store, owner)
    make.make_late(store, late, "queue_deadline")
    with store.begin() as tx:
        attempts.reap_deadlines(tx)
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


def test_a_filter_without_an_address_is_refused(api, photo):
    answer = calls.submit_json(api, image=calls.data_uri(photo), webhook_events=["job.failed"])
    calls.assert_problem(answer, 422, "invalid_field", "/webhook_events")
    job = calls.submit(
        api, photo, webhook_url=HOOK, webhook_events=["job.failed", "job.expired"]
    ).get_json()
    assert job["webhook_events"] == ["job.failed", "job.expired"]


@pytest.mark.parametrize("kind", ["endpoint", "jobs"])
def test_during_a_rotation_both_secrets_verify_and_then_only_the_new_one(
    open_api, store, owner, receiver, sending, kind
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

    end_job(store, owner, sending, **changes)
    [(headers, body, _)] = receiver.wait("/hook")
    for secret in (old["secret"], new["secret"]):
        assert Webhook(secret).verify(body, headers)["type"] == "job.canceled"

    # A secret that leaked: it stops at once, in the middle of a rotation.
    third = open_api.post(f"{where}/rotate", json={"grace_seconds": 0}).get_json()
    assert third["previous_secret_until"] is None
    end_job(store, owner, sending, **changes)
    _, (headers, body, _) = receiver.wait("/hook", 2)
    Webhook(third["secret"]).verify(body, headers)
    for secret in (old["secret"], new["secret"]):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers)


def test_a_bad_rotation_is_refused_by_its_field(api):
    for grace in (-1, 604_801, "1"):
        answer = api.post("/v1/webhooks/secret/rotate", json={"grace_seconds": grace})
        calls.assert_problem(answer, 422, "invalid_field", "/grace_seconds")


def test_gone_disables_the_endpoint_and_gives_up_what_it_is_owed(
    open_api, store, owner, receiver, sending
):
    receiver.answers["/gone"] = [(410, {}), (204, {})]
    hook = create(open_api, receiver.url("/gone"))
    path = f"/v1/webhooks/{hook['id']}"
    # Owed and not due, so that only the other one is tried.
    end_job(store, owner)
    update(store, "UPDATE webhook_deliveries SET next_at = now() + interval '1 hour'")
    end_job(store, owner, sending)
    wait_state(open_api, "failed", 2)
    errors = {delivery["last_error"] for delivery in listed(open_api)}
    assert errors == {"http_410", "webhook_disabled"}
    shown = open_api.get(path).get_json()
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "gone")
    assert len(receiver.requests["/gone"]) == 1

    end_job(store, owner, sending)
    assert len(listed(open_api)) == 2, "nothing is owed to a disabled endpoint"
    calls.assert_problem(open_api.post(f"{path}/test"), 409, "webhook_disabled")
    [one, _] = listed(open_api)
    again = open_api.post(f"/v1/webhooks/deliveries/{one['id']}/redeliver")
    calls.assert_problem(again, 409, "webhook_disabled")

    open_api.patch(path, json={"enabled": True})
    end_job(store, owner, sending)
    wait_state(open_api, "delivered", 1)


@pytest.mark.parametrize("took_one", [False, True])
def test_an_endpoint_that_fails_a_whole_schedule_is_disabled_unless_it_took_others(
    open_api, store, owner, receiver, sending, took_one
):
    receiver.answers["/broken"] = [(500, {})]
    hook = create(open_api, receiver.url("/broken"))
    failing = end_job(store, owner)
    late = "now() + interval '1 hour'"
    update(store, f"UPDATE webhook_deliveries SET tries = 9, next_at = {late}")
    if took_one:
        end_job(store, owner)
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


def test_tests_do_not_pile_up(api, store):
    path = f"/v1/webhooks/{create(api, HOOK)['id']}/test"
    for _ in range(MAX_OPEN_TESTS):
        assert api.post(path).status_code == 202
    calls.assert_problem(api.post(path), 409, "test_pending")
    for _ in range(30):
        update(store, "UPDATE webhook_deliveries SET delivered_at = now()")
        assert api.post(path).status_code == 202
    assert calls.rows_in(store, "webhook_deliveries") == webhook_endpoints.KEPT_TESTS


def test_a_delivery_can_be_made_again_under_its_own_id(open_api, store, owner, receiver, sending):
    receiver.answers["/hook"] = [(204, {}), (500, {}), (204, {})]
    create(open_api, receiver.url("/hook"))
    end_job(store, owner, sending)
    [delivery] = wait_state(open_api, "delivered")
    path = f"/v1/webhooks/deliveries/{delivery['id']}"
    again = open_api.post(f"{path}/redeliver")
    assert again.status_code == 202
    assert (again.get_json()["state"], again.get_json()["delivered_at"]) == ("pending", None)
    first, second = receiver.wait("/hook", 2)
    assert first[0]["webhook-id"] == second[0]["webhook-id"] == delivery["id"]
    # It failed, waits for its schedule's second try, and is asked for once more before that.
    services.wait_until(lambda: open_api.get(path).get_json()["last_status"] == 500)
    waiting = open_api.get(path).get_json()
    assert (waiting["state"], waiting["tries"]) == ("pending", 2)
    assert open_api.post(f"{path}/redeliver").status_code == 202
    receiver.wait("/hook", 3)
    [delivered] = wait_state(open_api, "delivered")
    assert (delivered["tries"], delivered["last_error"]) == (3, None)


def test_a_delivery_under_way_is_not_made_twice(api, store, owner):
    create(api, HOOK)
    end_job(store, owner)
    with store.once() as tx:
        [due] = deliveries.lease_due(tx, limit=10)
        assert deliveries.begin(tx, due) is not None
    path = f"/v1/webhooks/deliveries/{due.delivery_id}/redeliver"
    calls.assert_problem(api.post(path), 409, "delivery_under_way")
    with store.once() as tx:
        assert deliveries.begin(tx, Due(due.delivery_id, 0)) is None


def test_deliveries_are_listed_by_page_and_filter(api, store, owner):
    hook = create(api, HOOK)
    ended = [end_job(store, owner, webhook_url="https://example.com/own") for _ in range(4)]
    update(
        store,
        "UPDATE webhook_deliveries SET given_up_at = now(), last_error = 'http_500'"
        " WHERE job_id = :id",
        id=ended[0],
    )
    seen, query = [], {"limit": 3}
    while True:
        page = api.get("/v1/webhooks/deliveries", query_string=query).get_json()
        seen += page["data"]
        if not page["has_more"]:
            break
        query["after"] = page["next"]
    assert len({delivery["id"] for delivery in seen}) == len(seen) == 8
    made = [delivery["created_at"] for delivery in seen]
    assert made == sorted(made, reverse=True)
    assert {delivery["job_id"] for delivery in seen} == {str(job_id) for job_id in ended}
    assert len(listed(api, webhook_id=hook["id"])) == 4
    assert len(listed(api, job_id=ended[1])) == 2
    assert len(listed(api, event="job.canceled", state="pending")) == 6
    [one, two] = listed(api, state="failed")
    assert one["job_id"] == two["job_id"] == str(ended[0])
    assert one["next_try_at"] is None
    assert listed(api, event="job.succeeded") == []


@pytest.mark.parametrize("name", ["limit", "after", "state", "event", "job_id", "webhook_id"])
def test_a_bad_filter_is_refused_by_its_name(api, name):
    answer = api.get("/v1/webhooks/deliveries", query_string={name: "nonsense"})
    calls.assert_problem(answer, 422, "invalid_field", f"/{name}")


def test_a_removed_endpoint_gets_nothing_more(api, store, owner):
    hook = create(api, HOOK)
    end_job(store, owner)
    api.delete(f"/v1/webhooks/{hook['id']}")
    assert calls.rows_in(store, "webhook_deliveries") == 0


def test_a_receivers_backlog_leaves_room_for_every_other(store, owner):
    """10,000 due deliveries to one receiver, and one to each of 40 others, all later."""
    job_id = make.submit(store, owner)
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
            tx.execute(text(due.format(url=url, age=age)), {"job": job_id, "owner": owner, "n": n})
        tx.execute(text("ANALYZE webhook_deliveries"))
    with store.engine.connect() as tx:
        explained = tx.execute(
            text(f"EXPLAIN (ANALYZE, FORMAT JSON) {deliveries.LEASE_ANY.text}"),
            {"limit": 256, "each": RECEIVER_LIMIT, "lease": 60},
        ).scalar_one()
        tx.rollback()
    assert rows_read(explained[0]["Plan"]) < 500
    with store.once() as tx:
        first = deliveries.lease_due(tx, limit=256)
        assert len(first) == 40 + RECEIVER_LIMIT
        assert deliveries.lease_due(tx, limit=256) == []
        assert deliveries.lease_same(tx, "https://silent.example/any") is None
        # One try ends: there is room for exactly one more.
        update(
            store,
            "UPDATE webhook_deliveries SET delivered_at = now(), leased_until = NULL"
            " WHERE id = (SELECT id FROM webhook_deliveries"
            "   WHERE url LIKE 'https://Silent%' AND leased_until IS NOT NULL LIMIT 1)",
        )
        assert deliveries.lease_same(tx, "https://silent.example/any") is not None
        assert deliveries.lease_same(tx, "https://silent.example/any") is None


def rows_read(plan):
    """Rows of deliveries that an executed plan looked at."""
    own = 0
    if plan.get("Relation Name") == "webhook_deliveries" and "Scan" in plan["Node Type"]:
        own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return own * plan["Actual Loops"] + sum(map(rows_read, plan.get("Plans", [])))


def test_the_end_of_a_real_job_is_announced_to_an_endpoint(
    change, store, tmp_path, open_api, receiver, api_key
):
    hook = create(open_api, receiver.url("/hook"))
    with store.once() as tx:
        owner = keys.find(tx, api_key).id
    config = change(outbound_allow=receiver.address)
    with make_fleet(config, store, tmp_path) as fleet:
        fleet.owner = owner
        fleet.dispatcher(), fleet.cpu_worker()
        fleet.worker().wait_ready()
        job_id = fleet.submit()
        fleet.wait(job_id, "succeeded")
        [(headers, body, _)] = receiver.wait("/hook")
    message = Webhook(hook["secret"]).verify(body, headers)
    assert (message["type"], message["data"]["job"]["id"]) == ("job.succeeded", str(job_id))


def snippet(language, heading):
    """The first block of code in that language under a heading of the README."""
    section = (services.ROOT / "README.md").read_text().split(f"\n## {heading}\n")[1]
    return section.split(f"```{language}\n")[1].split("```")[0]


@pytest.mark.parametrize("knows_the_secret", [True, False])
def test_the_receiver_of_the_readme_verifies(
    change, api_key, start_worker, start_loop, tmp_path, knows_the_secret
):
    port = services.free_port()
    app = create_app(change(outbound_allow=f"127.0.0.1:{port}"))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    hook = create(client, f"http://127.0.0.1:{port}/")
    secret = hook["secret"] if knows_the_secret else "whsec_" + "A" * 43 + "="
    script = tmp_path / "receiver.py"
    script.write_text(snippet("python", "Webhooks"))
    printed = tmp_path / "printed"
    with (
        printed.open("wb") as out,
        services.process(
            [sys.executable, script, port], env=os.environ | {"WEBHOOK_SECRET": secret}, stdout=out
        ) as child,
    ):
        services.wait_until(lambda: socket.create_connection(("127.0.0.1", port), 1), child)
        start_worker(allow=f"127.0.0.1:{port}")
        start_loop()
        client.post(f"/v1/webhooks/{hook['id']}/test")
        [delivery] = wait_state(client, "delivered" if knows_the_secret else "failed")
    assert delivery["last_status"] == (204 if knows_the_secret else 401)
    assert ("webhook.test" in printed.read_text()) is knows_the_secret
    app.extensions["services"].close()


def test_a_worker_knows_whether_anybody_wants_to_hear_of_a_job(api, store, owner):
    for expected in (False, True):
        make.submit(store, owner)
        with store.begin() as tx:
            [placed] = attempts.place(tx, "noop", "us-east", "us-east", ["t"], [])
            begun = attempts.begin(tx, placed.job_id, placed.fence, worker="w", attempt_limit_s=60)
        assert begun.has_webhooks is expected
        if not expected:
            create(api, HOOK)


def test_the_two_kinds_of_secret_never_meet(api, owner, settings):
    hook = create(api, HOOK)
    assert UUID(hook["id"]) != owner
    assert hook["secret"] != api.get("/v1/webhooks/secret").get_json()["secret"]
