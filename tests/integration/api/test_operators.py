"""Operators reach jobs of every key, and the audit says so."""

import pytest

from app.store import keys
from tests.integration.api.test_jobs import finish, place_and_begin
from tests.support import calls, make


@pytest.fixture(params=[("admin",), ("jobs", "admin")])
def admin(request, app, store):
    with store.begin() as tx:
        _, plain = keys.create(tx, "on call", request.param)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {plain}"
    return client


@pytest.fixture
def job_id(api, photo):
    return calls.submit(api, photo, prompt="waves").get_json()["id"]


def audited(admin):
    found = admin.get("/v1/audit").get_json()["data"]
    return [(entry["key"]["name"], entry["verb"], entry["subject"]) for entry in found]


def test_an_operator_reads_and_follows_any_job(admin, store, job_id):
    finish(store, place_and_begin(store, job_id))
    shown = admin.get(f"/v1/jobs/{job_id}").get_json()
    assert (shown["id"], shown["prompt"], shown["state"]) == (job_id, "waves", "succeeded")
    assert admin.get(f"/v1/jobs/{job_id}/timeline").get_json()["job_id"] == job_id
    assert admin.get(f"/v1/jobs/{job_id}/video").status_code == 302
    followed = admin.get(f"/v1/jobs/{job_id}/events").get_data(as_text=True)
    assert "event: completed" in followed
    # Once per verb, however often a page polls.
    assert audited(admin) == [
        ("on call", "jobs.follow", job_id),
        ("on call", "jobs.read", job_id),
    ]


def test_an_operator_cancels_any_job(admin, api, store, job_id):
    answer = admin.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.get_json()["state"]) == (200, "canceled")
    assert audited(admin) == [("on call", "jobs.cancel", job_id)]
    seen = api.get(f"/v1/jobs/{job_id}").get_json()
    assert seen["error"] == {"code": "canceled", "message": "The job was canceled."}
    again = admin.post(f"/v1/jobs/{job_id}/cancel")
    calls.assert_problem(again, 409, "job_already_ended")


def test_an_operator_does_not_delete_or_list_the_jobs_of_others(admin, store, job_id):
    listed = admin.get("/v1/jobs")
    deleted = admin.delete(f"/v1/jobs/{job_id}")
    assert listed.status_code == 403 or listed.get_json()["data"] == []
    assert deleted.status_code in (403, 404)
    assert admin.get(f"/v1/videos/{job_id}").status_code in (403, 404)
    assert make.read(store, job_id).state == "queued"
    assert audited(admin) == []


def test_their_own_and_unknown_jobs_leave_no_entry(app, store, photo, job_id):
    with store.begin() as tx:
        _, plain = keys.create(tx, "on call", ("jobs", "admin"))
    admin = app.test_client()
    admin.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {plain}"
    own = calls.submit(admin, photo).get_json()["id"]
    assert admin.get(f"/v1/jobs/{own}").status_code == 200
    unknown = admin.get("/v1/jobs/0199a1b2-0000-7000-8000-000000000000")
    calls.assert_problem(unknown, 404, "job_not_found")
    assert audited(admin) == []


def test_other_keys_still_see_nothing(anonymous, store, job_id):
    with store.begin() as tx:
        stranger = {"Authorization": f"Bearer {keys.create(tx, 'stranger')[1]}"}
    for path in ("", "/timeline", "/events", "/video"):
        answer = anonymous.get(f"/v1/jobs/{job_id}{path}", headers=stranger)
        calls.assert_problem(answer, 404, "job_not_found")
    answer = anonymous.post(f"/v1/jobs/{job_id}/cancel", headers=stranger)
    calls.assert_problem(answer, 404, "job_not_found")
    assert calls.rows_in(store, "audit_entries") == 0
