"""A submit's options (waiting, estimates, deadlines), the list's filters, and usage."""

import io
import json
import time
from threading import Thread

import pytest

from app.api.application import create_app
from app.broker.claims import Claims
from app.domain.errors import Transient
from app.domain.routing.topology import Pool
from app.store.job import attempts
from tests.integration.api.test_jobs import finish, place_and_begin
from tests.support import calls, make

NOOP = {"model": "noop"}


def test_prefer_wait_answers_when_the_job_has_ended(api, photo, store):
    def work():
        while not calls.rows_in(store):
            time.sleep(0.01)
        with store.autocommit() as conn:
            job_id = conn.exec_driver_sql("SELECT id FROM jobs").scalar_one()
        finish(store, place_and_begin(store, str(job_id), profile="noop"))

    worker = Thread(target=work)
    worker.start()
    began = time.monotonic()
    answer = calls.submit(api, photo, headers={"Prefer": "wait=30"}, **NOOP)
    worker.join()
    assert (answer.status_code, answer.get_json()["state"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.headers["Location"].endswith(answer.get_json()["id"])
    assert time.monotonic() - began < 25


def test_prefer_wait_ends_after_its_time_with_202(api, photo):
    began = time.monotonic()
    answer = calls.submit(api, photo, headers={"Prefer": "respond-async, wait=1"}, **NOOP)
    assert time.monotonic() - began >= 1
    assert (answer.status_code, answer.get_json()["state"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "wait=1"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=x", "waitress=3", "wait=-1", ""])
def test_unknown_preferences_are_ignored(api, photo, prefer):
    answer = calls.submit(api, photo, headers={"Prefer": prefer}, **NOOP)
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


def test_without_a_waiting_slot_the_response_is_immediate(change, api_key, photo):
    app = create_app(change(api_waiters=0))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    answer = calls.submit(client, photo, headers={"Prefer": "wait=30"}, **NOOP)
    assert (answer.status_code, "Preference-Applied" in answer.headers) == (202, False)
    assert answer.headers["Preference-Refused"] == "wait"
    app.extensions["services"].close()


def test_waiting_requests_hold_no_working_slot(change, api_key, photo):
    """With one request slot, another client is served while the first waits."""
    app = create_app(change(api_threads=1, api_waiters=4))
    headers = {"Authorization": f"Bearer {api_key}", "Prefer": "wait=3"}
    waiting = Thread(target=lambda: calls.submit(app.test_client(), photo, headers=headers, **NOOP))
    waiting.start()
    time.sleep(0.5)
    assert app.test_client().get("/healthz").status_code == 200
    assert waiting.is_alive()
    waiting.join()
    app.extensions["services"].close()


@pytest.mark.parametrize("given", ["1", "true"])
def test_a_dry_run_estimates_and_stores_nothing(
    api, photo, store, objects_dir, settings, client, given
):
    before = make.submit(store, make.owner(store), cost=0.25)  # that of the same clip
    with store.begin() as tx:
        [placed] = make.place(tx, "noop", "us-east", "us-east", ["t"])
        make.begin(tx, before, placed.fence)
        attempts.finish(tx, before, placed.fence, "outputs/a.mp4", 1, lease_token=make.LEASE)
        tx.exec_driver_sql("UPDATE jobs SET started_at = finished_at - interval '3 s'")
    Claims(client).announce(Pool("us-west", "noop"), "w1")
    rows, objects = calls.rows_in(store), calls.objects_in(objects_dir)
    data = {"image": (io.BytesIO(photo), "a.jpg"), **NOOP}
    answer = api.post(f"/v1/jobs?dry_run={given}", data=data)
    assert answer.status_code == 200
    estimate = answer.get_json()
    assert estimate["object"] == "estimate"
    assert estimate["region"]["home"] == "us-east"
    assert estimate["region"]["predicted"] == "us-west", "the only idle worker is there"
    assert estimate["queue"] == {"position": 0, "wait_seconds": 0.0, "workers": 1}
    assert estimate["eta_seconds"] == pytest.approx(3, abs=0.01)
    assert estimate["cost_units"] > 0
    assert calls.rows_in(store) == rows
    assert calls.rows_in(store, "fair_marks") == 0
    assert calls.objects_in(objects_dir) == objects


def test_a_dry_run_says_what_of_the_prompt_would_count(api, photo):
    def understood(**fields):
        data = {"image": (io.BytesIO(photo), "a.jpg"), **fields}
        return api.post("/v1/jobs?dry_run=1", data=data).get_json()["prompt_understood"]

    found = understood(prompt="la mujer sonríe, zoom hacia atrás, asdf", model="motion-small")
    assert (found["camera"], found["object"], found["ambient"]) == ("zoom out", None, False)
    assert (found["unsupported"], found["ignored"]) == (["smile"], ["asdf"])
    assert found["hint"] == "This model cannot make faces smile or cry."
    assert understood(prompt="zoom out", model="noop") is None


def test_a_dry_run_refuses_what_a_submit_would(api, photo):
    def post(data, **fields):
        image = (io.BytesIO(data), "a.jpg")
        return api.post("/v1/jobs?dry_run=1", data={"image": image, **fields})

    calls.assert_problem(post(b"text"), 422, "not_an_image", "/image")
    calls.assert_problem(post(photo, region="mars"), 422, "unknown_region", "/region")
    calls.assert_problem(api.post("/v1/jobs?dryrun=1"), 422, "unknown_field", "/dryrun")


@pytest.mark.parametrize(("header", "seconds"), [("90s", 90), ("5m", 300), ("1h", 3600), ("7", 7)])
def test_cancel_after_is_the_jobs_deadline(api, photo, store, header, seconds):
    job_id = calls.submit(api, photo, headers={"Cancel-After": header}).get_json()["id"]
    row = make.read(store, job_id)
    assert (row.deadline - row.created_at).total_seconds() == pytest.approx(seconds, abs=5)


@pytest.mark.parametrize("header", ["soon", "0s", "-1s", "1d", "8d", "604801s", "1.5m"])
def test_an_invalid_cancel_after_is_refused(api, photo, header):
    answer = calls.submit(api, photo, headers={"Cancel-After": header})
    calls.assert_problem(answer, 422, "invalid_cancel_after", "/deadline_seconds")


def test_cancel_after_with_another_deadline_is_refused(api, photo):
    headers = {"Cancel-After": "60s"}
    answer = calls.submit(api, photo, headers=headers, deadline_seconds=61)
    calls.assert_problem(answer, 422, "invalid_cancel_after", "/deadline_seconds")
    assert calls.submit(api, photo, headers=headers, deadline_seconds=60).status_code == 202


def test_a_list_can_be_filtered_by_metadata_and_time(api, photo):
    def submit(**labels):
        fields = {"metadata": json.dumps(labels)}
        return calls.submit(api, photo, **fields).get_json()

    def listed(**query):
        return [job["id"] for job in api.get("/v1/jobs", query_string=query).get_json()["data"]]

    first, second = submit(order="1", shop="a"), submit(order="2", shop="a")
    time.sleep(0.01)
    third = submit(order="1", shop="b")
    assert listed(**{"metadata[order]": "1"}) == [third["id"], first["id"]]
    assert listed(**{"metadata[order]": "1", "metadata[shop]": "a"}) == [first["id"]]
    assert listed(**{"metadata[order]": "3"}) == []
    assert listed(created_before=third["created_at"], limit=1) == [second["id"]]
    assert listed(created_after=third["created_at"]) == [third["id"]]
    for moment in ("yesterday", "2030-01-01T00:00:00", "0001-01-01T00:00:00Z"):
        answer = api.get(f"/v1/jobs?created_after={moment}")
        calls.assert_problem(answer, 422, "invalid_field", "/created_after")
    answer = api.get("/v1/jobs", query_string={"metadata[]": "x"})
    calls.assert_problem(answer, 422, "invalid_field")


def test_poll_hints_follow_the_prediction(api, photo, store):
    job_id = calls.submit(api, photo, **NOOP).get_json()["id"]
    placed = place_and_begin(store, job_id, profile="noop")
    finish(store, placed)
    with store.begin() as tx:
        tx.exec_driver_sql("UPDATE jobs SET started_at = finished_at - interval '80 s'")
    time.sleep(2.1)  # known service times may be this old
    job_id = calls.submit(api, photo, **NOOP).get_json()["id"]
    place_and_begin(store, job_id, profile="noop")
    answer = api.get(f"/v1/jobs/{job_id}")
    assert answer.get_json()["eta_seconds"] == pytest.approx(80, abs=3)
    assert 9 <= int(answer.headers["Retry-After"]) <= 11


def test_the_timeline_has_every_hop_and_its_duration(api, photo, store):
    job_id = calls.submit(api, photo).get_json()["id"]
    hops = [
        {"region": "us-west", "outcome": "refused", "reason": "no_idle_worker", "at": "x"},
        {"region": "us-east", "outcome": "placed", "at": "x"},
    ]
    with store.begin() as tx:
        [placed] = make.place(tx, "motion-small", "us-east", "us-east", ["t"], hops=hops)
        make.begin(tx, placed.job_id, 1, worker="w1")
    with store.begin() as tx:
        error = Transient("x", code="out_of_memory")
        attempts.fail(
            tx, placed.job_id, 1, error, delay_s=0.0, next_region="us-east", lease_token=make.LEASE
        )
    placed = place_and_begin(store, job_id)
    with store.autocommit() as conn:
        attempts.finish(
            conn,
            placed.job_id,
            2,
            "outputs/a.mp4",
            1,
            {"fetch": 0.1, "render": 2.0},
            lease_token=make.LEASE,
        )
    entries = api.get(f"/v1/jobs/{job_id}/timeline").get_json()["data"]
    assert [entry["event"] for entry in entries] == [
        "queued", "starting", "processing", "queued", "starting", "processing", "succeeded",
    ]  # fmt: skip
    assert entries[1]["hops"] == hops
    assert (entries[3]["reason"], entries[3]["attempt"]) == ("out_of_memory", 1)
    assert entries[5]["stages"] == {"fetch": 0.1, "render": 2.0}
    assert entries[-1]["seconds"] is None
    assert all(entry["seconds"] >= 0 for entry in entries[:-1])
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)


def test_usage_counts_a_keys_jobs_by_day_and_model_including_deleted_ones(api, photo, store):
    done = calls.submit(api, photo, **NOOP).get_json()["id"]
    finish(store, place_and_begin(store, done, profile="noop"))
    dropped = calls.submit(api, photo).get_json()["id"]
    api.delete(f"/v1/jobs/{dropped}")
    make.submit(store, make.owner(store))  # another key's
    body = api.get("/v1/usage").get_json()
    assert body["object"] == "usage"
    found = {entry["model"]: entry for entry in body["data"]}
    assert found.keys() == {"noop", "motion-small"}
    assert (found["noop"]["jobs"], found["noop"]["succeeded"]) == (1, 1)
    assert found["noop"]["cost_units"] > 0
    assert found["noop"]["gpu_seconds"] > 0
    assert (found["motion-small"]["canceled"], found["motion-small"]["cost_units"]) == (1, 0)
    assert api.get("/v1/usage?start=2020-01-01&end=2020-01-31").get_json()["data"] == []


@pytest.mark.parametrize(
    "query",
    [
        "start=x",
        "start=2030-02-01&end=2030-01-01",
        "start=2020-01-01&end=2021-01-01",
        "start=9999-12-31&end=9999-12-31",
        "start=0001-01-01&end=0001-01-01",
    ],
)
def test_a_usage_report_of_zero_or_too_many_days_is_refused(api, query):
    calls.assert_problem(api.get(f"/v1/usage?{query}"), 422, "invalid_field")
