"""The webhook API: what it accepts, shows and refuses. Nothing is delivered here."""

import re
from uuid import UUID, uuid4

import pytest

from app.store import keys
from app.store.webhooks import deliveries, endpoints
from app.store.webhooks.deliveries import Due
from app.store.webhooks.endpoints import MAX_ENDPOINTS, MAX_OPEN_TESTS
from tests.support import calls, make
from tests.support.hooks import create, end_job, listed, update

HOOK = "https://example.com/hook"


def test_an_endpoint_is_created_shown_changed_and_removed(api):
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


def test_invalid_json_is_refused(api):
    broken = api.post("/v1/webhooks", data=b"{", content_type="application/json")
    calls.assert_problem(broken, 400, "invalid_json")
    form = api.post("/v1/webhooks", data={"url": HOOK})
    calls.assert_problem(form, 415, "unsupported_media_type")


def test_a_url_is_one_endpoint_and_endpoints_per_key_are_limited(api):
    for n in range(MAX_ENDPOINTS):
        create(api, f"https://example.com/{n}")
    again = api.post("/v1/webhooks", json={"url": HOOK})
    calls.assert_problem(again, 409, "too_many_webhooks")
    [first, *_] = api.get("/v1/webhooks").get_json()["data"]
    api.delete(f"/v1/webhooks/{first['id']}")
    double = api.post("/v1/webhooks", json={"url": "https://example.com/1"})
    calls.assert_problem(double, 409, "webhook_exists", "/url")


def test_another_owners_webhooks_look_nonexistent(api, anonymous, store, caller):
    hook = create(api, HOOK)
    end_job(store, caller)
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


def test_a_filter_without_an_address_is_refused(api, photo):
    answer = calls.submit_json(api, image=calls.data_uri(photo), webhook_events=["job.failed"])
    calls.assert_problem(answer, 422, "invalid_field", "/webhook_events")
    job = calls.submit(
        api, photo, webhook_url=HOOK, webhook_events=["job.failed", "job.expired"]
    ).get_json()
    assert job["webhook_events"] == ["job.failed", "job.expired"]


def test_a_bad_rotation_is_refused_by_its_field(api):
    for grace in (-1, 604_801, "1"):
        answer = api.post("/v1/webhooks/secret/rotate", json={"grace_seconds": grace})
        calls.assert_problem(answer, 422, "invalid_field", "/grace_seconds")


def test_test_deliveries_do_not_pile_up(api, store):
    path = f"/v1/webhooks/{create(api, HOOK)['id']}/test"
    for _ in range(MAX_OPEN_TESTS):
        assert api.post(path).status_code == 202
    calls.assert_problem(api.post(path), 409, "test_pending")
    for _ in range(30):
        update(store, "UPDATE webhook_deliveries SET delivered_at = now()")
        assert api.post(path).status_code == 202
    assert calls.rows_in(store, "webhook_deliveries") == endpoints.KEPT_TESTS


def test_a_delivery_in_progress_is_not_made_twice(api, store, caller):
    create(api, HOOK)
    end_job(store, caller)
    with store.autocommit() as conn:
        [due] = deliveries.lease_due(conn, limit=10)
        assert deliveries.begin(conn, due) is not None
    path = f"/v1/webhooks/deliveries/{due.delivery_id}/redeliver"
    calls.assert_problem(api.post(path), 409, "delivery_under_way")
    with store.autocommit() as conn:
        assert deliveries.begin(conn, Due(due.delivery_id, 0)) is None


def test_deliveries_are_listed_by_page_and_filter(api, store, caller):
    hook = create(api, HOOK)
    ended = [end_job(store, caller, webhook_url="https://example.com/own") for _ in range(4)]
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


def test_a_page_of_deliveries_goes_on_where_a_removed_one_was(api, store, caller):
    for _ in range(6):
        end_job(store, caller, webhook_url="https://example.com/own")
    whole = [delivery["id"] for delivery in listed(api)]
    first = api.get("/v1/webhooks/deliveries", query_string={"limit": 2}).get_json()
    assert [delivery["id"] for delivery in first["data"]] == whole[:2]
    update(store, "DELETE FROM webhook_deliveries WHERE id = :id", id=whole[1])
    assert [d["id"] for d in listed(api, after=first["next"])] == whole[2:]
    assert [d["id"] for d in listed(api, after=whole[3])] == whole[4:], "an id is a cursor, too"
    gone = api.get("/v1/webhooks/deliveries", query_string={"after": whole[1]})
    calls.assert_problem(gone, 404, "delivery_not_found")


def test_deliveries_of_one_moment_are_each_listed_once(api, store, caller):
    """All deliveries of jobs that end in one statement have the same time."""
    for _ in range(5):
        end_job(store, caller, webhook_url="https://example.com/own")
    update(store, "UPDATE webhook_deliveries SET created_at = now()")
    seen, query = [], {"limit": 2}
    while query["limit"]:
        page = api.get("/v1/webhooks/deliveries", query_string=query).get_json()
        seen += [delivery["id"] for delivery in page["data"]]
        query = {"limit": 2 if page["next"] else 0, "after": page["next"]}
    assert len(seen) == len(set(seen)) == 5


@pytest.mark.parametrize("name", ["limit", "after", "state", "event", "job_id", "webhook_id"])
def test_a_bad_filter_is_refused_by_its_name(api, name):
    answer = api.get("/v1/webhooks/deliveries", query_string={name: "nonsense"})
    calls.assert_problem(answer, 422, "invalid_field", f"/{name}")


def test_a_removed_endpoint_gets_no_more_deliveries(api, store, caller):
    hook = create(api, HOOK)
    end_job(store, caller)
    api.delete(f"/v1/webhooks/{hook['id']}")
    assert calls.rows_in(store, "webhook_deliveries") == 0


def test_a_worker_knows_whether_anyone_is_watching_a_job(api, store, caller):
    for expected in (False, True):
        make.submit(store, caller)
        with store.begin() as tx:
            [placed] = make.place(tx, "noop", "us-east", "us-east", ["t"])
            begun = make.begin(tx, placed.job_id, placed.fence)
        assert begun.has_webhooks is expected
        if not expected:
            create(api, HOOK)


def test_the_two_kinds_of_secret_never_meet(api, caller, settings):
    hook = create(api, HOOK)
    assert UUID(hook["id"]) != caller
    assert hook["secret"] != api.get("/v1/webhooks/secret").get_json()["secret"]
