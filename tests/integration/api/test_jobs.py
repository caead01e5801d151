"""Submit, show, list, cancel and fetch jobs over the API."""

import io
import re
import time
from datetime import datetime

import pytest
from PIL import Image

from app.broker import progress
from app.broker.progress import Step
from app.config.profiles_file import PROFILES
from app.domain.errors import Transient
from app.domain.job.profiles import DEFAULT_PROFILE
from app.store import keys
from app.store.job import attempts, jobs
from tests.support import calls, make

ALL_FIELDS = {
    "prompt": "a gentle breeze",
    "model": "noop",
    "seed": 7,
    "frames": 16,
    "fps": 12,
    "size": 256,
    "motion": 1.5,
    "loop": True,
    "region": "us-east",
    "policy": "any",
    "allowed_regions": ["us-east", "eu-west"],
    "webhook_url": "https://example.com/hook",
    "max_queue_seconds": 60,
    "deadline_seconds": 600,
    "priority": 2,
}
STEPS = PROFILES[DEFAULT_PROFILE].steps
METADATA = {"order": "42", "naïve": "ключ"}


def place_and_begin(store, job_id, region="us-east", profile="motion-small"):
    with store.begin() as tx:
        [placed] = make.place(tx, profile, region, region, ["token"])
        assert str(placed.job_id) == job_id
        make.begin(tx, placed.job_id, placed.fence, worker="w1")
    return placed


def finish(store, placed, key="outputs/clip.mp4", size=3):
    with store.autocommit() as conn:
        assert attempts.finish(conn, placed.job_id, placed.fence, key, size, lease_token=make.LEASE)


def test_a_job_says_what_of_its_prompt_counts(api, photo):
    prompt = "Slowly pan left, the helmet sways, no zoom, she blinks"
    job = calls.submit(api, photo, prompt=prompt).get_json()
    expected = {
        "camera": "pan left",
        "object": "sway",
        "strength": "gentle",
        "target": None,
        "excluded": ["zoom in", "zoom out"],
        "unsupported": ["blink"],
        "hint": "This model cannot make faces blink.",
        "ignored": ["helmet"],
        "ambient": False,
    }
    assert job["prompt"] == prompt
    assert job["prompt_understood"] == expected
    assert api.get(f"/v1/jobs/{job['id']}").get_json()["prompt_understood"] == expected
    listed = api.get("/v1/jobs").get_json()["data"]
    assert [each["prompt_understood"] for each in listed] == [expected]


def test_unknown_words_are_ambient_and_a_model_of_free_text_says_nothing(api, photo):
    found = calls.submit(api, photo, prompt="asdf 馬").get_json()["prompt_understood"]
    nothing = dict.fromkeys(("camera", "object", "strength", "target", "hint"))
    nothing |= {"excluded": [], "unsupported": [], "ambient": True}
    assert found == nothing | {"ignored": ["asdf", "馬"]}
    found = calls.submit(api, photo).get_json()["prompt_understood"]
    assert found == nothing | {"ignored": []}
    free = calls.submit(api, photo, prompt="waves", model="noop").get_json()
    assert free["prompt_understood"] is None


def test_a_form_with_every_field_becomes_the_requested_job(api, photo, store):
    answer = calls.submit(api, photo, **ALL_FIELDS, metadata='{"order": "42", "naïve": "ключ"}')
    assert answer.status_code == 202
    job = answer.get_json()
    assert job["object"] == "job"
    assert (job["state"], job["terminal"]) == ("queued", False)
    fields = ("prompt", "model", "seed", "frames", "fps", "size", "motion", "loop")
    assert {name: job[name] for name in fields} == {name: ALL_FIELDS[name] for name in fields}
    assert job["region"] == {
        "home": "us-east",
        "policy": "any",
        "allowed": ["us-east", "eu-west"],
        "current": None,
    }
    assert job["metadata"] == METADATA
    assert job["webhook_url"] == ALL_FIELDS["webhook_url"]
    assert job["priority"] == 2
    assert job["progress"] == {"step": 0, "steps": 1}
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "1"
    row = make.read(store, job["id"])
    waits = row.queue_deadline - row.created_at
    assert 55 <= waits.total_seconds() <= 65
    assert 595 <= (row.deadline - row.created_at).total_seconds() <= 605


def test_json_with_a_data_uri_becomes_the_same_job_as_a_form(api, photo):
    form = calls.submit(api, photo, **ALL_FIELDS, metadata='{"order": "42", "naïve": "ключ"}')
    body = calls.submit_json(api, image=calls.data_uri(photo), **ALL_FIELDS, metadata=METADATA)
    assert body.status_code == 202
    differ = {"id", "created_at", "deadline", "urls"}
    first, second = form.get_json(), body.get_json()
    assert first.keys() == second.keys()
    assert all(first[name] == second[name] for name in first.keys() - differ)


def test_only_a_picture_is_needed_and_the_defaults_are_the_deployments(api, photo):
    job = calls.submit(api, photo).get_json()
    assert job["model"] == "motion-small"
    assert (job["frames"], job["fps"], job["size"]) == (48, 24, 512)
    assert (job["width"], job["height"]) == (512, 340)  # of a photo of 600 x 400
    assert (job["motion"], job["loop"]) == (1.0, False)
    assert job["region"]["home"] == "us-east"
    assert job["region"]["policy"] == "ring"
    assert 0 <= job["seed"] < 2**63
    assert job["seed"] != calls.submit(api, photo).get_json()["seed"]


def test_the_stored_picture_is_upright_small_and_without_metadata(api, objects_dir):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    exif[0x010E] = "taken at home"
    out = io.BytesIO()
    Image.new("RGB", (3000, 1500), "red").save(out, "JPEG", exif=exif)
    job = calls.submit(api, out.getvalue()).get_json()
    [key] = calls.objects_in(objects_dir)
    assert key == f"inputs/{job['id']}.jpg"
    stored = (objects_dir / key).read_bytes()
    assert b"taken at home" not in stored
    assert Image.open(io.BytesIO(stored)).size == (512, 1024)


def test_a_job_shows_its_queue_position(api, photo):
    ids = [calls.submit(api, photo).get_json()["id"] for _ in range(3)]
    shown = [api.get(f"/v1/jobs/{one}").get_json() for one in ids]
    assert [job["queue"]["position"] for job in shown] == [0, 1, 2]
    assert {job["queue"]["waiting_for"] for job in shown} == {"worker"}
    assert [job["attempts"] for job in shown] == [[], [], []]


def test_a_processing_job_shows_its_attempt_and_the_step_its_worker_reported(
    api, app, photo, store
):
    job_id = calls.submit(api, photo).get_json()["id"]
    placed = place_and_begin(store, job_id)
    client = app.extensions["services"].redis.of("us-east")
    progress.report(client, placed.job_id, Step(placed.fence, 3, time.time()), STEPS)
    answer = api.get(f"/v1/jobs/{job_id}")
    job = answer.get_json()
    assert (job["state"], job["queue"]) == ("processing", None)
    assert job["progress"] == {"step": 3, "steps": STEPS}
    assert job["region"]["current"] == "us-east"
    [attempt] = job["attempts"]
    assert (attempt["number"], attempt["region"], attempt["worker"]) == (1, "us-east", "w1")
    assert attempt["outcome"] is None
    assert answer.headers["Retry-After"] == "1"


def test_the_step_of_an_earlier_attempt_is_not_shown(api, app, photo, store):
    job_id = calls.submit(api, photo).get_json()["id"]
    placed = place_and_begin(store, job_id)
    client = app.extensions["services"].redis.of("us-east")
    progress.report(client, placed.job_id, Step(placed.fence, 3, time.time()), STEPS)
    lost = Transient("The worker is gone.")
    with store.begin() as tx:
        attempts.fail(
            tx, placed.job_id, 1, lost, delay_s=0.0, next_region="us-east", lease_token=make.LEASE
        )
    place_and_begin(store, job_id)
    job = api.get(f"/v1/jobs/{job_id}").get_json()
    assert job["progress"]["step"] == 0
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["failed", None]
    assert job["attempts"][0]["hops"][-1]["reason"] == "temporarily_unavailable"


def test_a_succeeded_job_shows_a_signed_url_that_serves_the_clip(api, anonymous, photo, store):
    job_id = calls.submit(api, photo).get_json()["id"]
    anonymous.application.extensions["services"].objects.put(
        "outputs/clip.mp4", b"abc", "video/mp4"
    )
    finish(store, place_and_begin(store, job_id))
    answer = api.get(f"/v1/jobs/{job_id}")
    job = answer.get_json()
    assert (job["state"], job["terminal"]) == ("succeeded", True)
    assert job["progress"] == {"step": STEPS, "steps": STEPS}
    assert job["error"] is None
    assert job["output"]["size_bytes"] == 3
    expires = datetime.fromisoformat(job["output"]["expires_at"])
    assert 3590 <= (expires - datetime.now(expires.tzinfo)).total_seconds() <= 3600
    assert "Retry-After" not in answer.headers
    clip = anonymous.get(job["output"]["url"])
    assert (clip.status_code, clip.data) == (200, b"abc")


def test_video_redirects_to_a_signed_url_for_get_and_head(api, photo, store):
    job_id = calls.submit(api, photo).get_json()["id"]
    finish(store, place_and_begin(store, job_id))
    for method in (api.get, api.head):
        answer = method(f"/v1/jobs/{job_id}/video")
        assert answer.status_code == 302
        assert "/v1/objects/outputs/clip.mp4?" in answer.headers["Location"]
        assert answer.headers["Cache-Control"] == "no-store"


def test_there_is_no_video_before_success(api, photo):
    job_id = calls.submit(api, photo).get_json()["id"]
    calls.assert_problem(api.get(f"/v1/jobs/{job_id}/video"), 409, "job_not_finished")
    api.post(f"/v1/jobs/{job_id}/cancel")
    calls.assert_problem(api.get(f"/v1/jobs/{job_id}/video"), 409, "job_has_no_video")


def test_a_list_is_newest_first_and_its_cursor_neither_skips_nor_repeats(api, photo):
    ids = [calls.submit(api, photo).get_json()["id"] for _ in range(5)]
    seen, after = [], None
    while True:
        query = {"limit": 2} | ({"after": after} if after else {})
        body = api.get("/v1/jobs", query_string=query).get_json()
        assert body["object"] == "list"
        seen += [job["id"] for job in body["data"]]
        after = body["next"]
        assert body["has_more"] is (after is not None)
        if after is None:
            break
    assert seen == ids[::-1]


def test_a_list_can_be_filtered_by_state(api, photo):
    keep, drop = (calls.submit(api, photo).get_json()["id"] for _ in range(2))
    api.post(f"/v1/jobs/{drop}/cancel")
    listed = {
        state: [job["id"] for job in api.get(f"/v1/jobs?state={state}").get_json()["data"]]
        for state in ("queued", "canceled", "failed")
    }
    assert listed == {"queued": [keep], "canceled": [drop], "failed": []}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "invalid_field"),
        ("limit=101", "invalid_field"),
        ("after=x", "invalid_field"),
        ("state=done", "invalid_field"),
        ("sort=up", "unknown_field"),
    ],
)
def test_a_list_refuses_a_query_it_does_not_know(api, query, code):
    calls.assert_problem(api.get(f"/v1/jobs?{query}"), 422, code, "/" + query.split("=")[0])


def test_canceling_a_waiting_job_ends_it_at_once_and_owes_its_webhook(api, photo, store):
    job_id = calls.submit(api, photo, webhook_url="https://example.com/").get_json()["id"]
    answer = api.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.status_code == 200
    job = answer.get_json()
    assert (job["state"], job["error"]["code"]) == ("canceled", "canceled")
    assert calls.rows_in(store, "webhook_deliveries") == 1
    calls.assert_problem(api.post(f"/v1/jobs/{job_id}/cancel"), 409, "job_already_ended")


def test_canceling_a_processing_job_asks_its_worker_to_stop(api, app, photo, store):
    job_id = calls.submit(api, photo).get_json()["id"]
    placed = place_and_begin(store, job_id)
    answer = api.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.get_json()["state"]) == (202, "processing")
    client = app.extensions["services"].redis.of("us-east")
    assert progress.report(client, placed.job_id, Step(placed.fence, 1, time.time()), 8) is True
    with store.autocommit() as conn:
        assert (
            attempts.renew(conn, placed.job_id, placed.fence, step=1, lease_token=make.LEASE)
            is False
        )
        assert attempts.stop(conn, placed.job_id, placed.fence, lease_token=make.LEASE)
    calls.assert_problem(api.post(f"/v1/jobs/{job_id}/cancel"), 409, "job_already_ended")


def test_canceling_after_success_changes_nothing(api, photo, store):
    job_id = calls.submit(api, photo).get_json()["id"]
    finish(store, place_and_begin(store, job_id))
    calls.assert_problem(api.post(f"/v1/jobs/{job_id}/cancel"), 409, "job_already_ended")
    assert make.read(store, job_id).state == "succeeded"


@pytest.mark.parametrize("call", ["", "/video", "/cancel"])
def test_another_owners_job_looks_nonexistent(api, anonymous, photo, store, call):
    job_id = calls.submit(api, photo).get_json()["id"]
    with store.begin() as tx:
        stranger = {"Authorization": f"Bearer {keys.create(tx, 'stranger')[1]}"}
    method = anonymous.post if call == "/cancel" else anonymous.get
    for unknown in (job_id, "01a0b2c3-0000-7000-8000-000000000000", "nonsense", "0"):
        answer = method(f"/v1/jobs/{unknown}{call}", headers=stranger)
        calls.assert_problem(answer, 404, "job_not_found")
    assert anonymous.get("/v1/jobs", headers=stranger).get_json()["data"] == []
    with store.autocommit() as conn:
        assert jobs.read(conn, job_id).state == "queued"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"),
        ("Basic c206c20=", "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Bearer sm_wrong", "invalid_api_key"),
        ("Bearer ключ", "invalid_api_key"),
    ],
)
def test_without_a_valid_key_nothing_is_done(anonymous, photo, store, objects_dir, header, code):
    headers = {} if header is None else {"Authorization": header.encode().decode("latin-1")}
    answer = calls.submit(anonymous, photo, headers=headers)
    calls.assert_problem(answer, 401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert calls.rows_in(store) == 0
    assert calls.objects_in(objects_dir) == []


def test_a_revoked_key_and_one_without_the_scope_are_refused(anonymous, store):
    with store.begin() as tx:
        key_id, revoked = keys.create(tx, "old")
        keys.revoke(tx, key_id)
        _, admin = keys.create(tx, "admin", ("admin",))
    for plain, status, code in (
        (revoked, 401, "invalid_api_key"),
        (admin, 403, "insufficient_scope"),
    ):
        answer = anonymous.get("/v1/jobs", headers={"Authorization": f"Bearer {plain}"})
        calls.assert_problem(answer, status, code)


def test_the_key_is_checked_before_the_body_is_read(anonymous, store):
    class Untouchable(io.RawIOBase):
        def readinto(self, buffer):
            raise AssertionError("the body was read")

    answer = anonymous.post(
        "/v1/jobs",
        content_type="application/json",
        environ_overrides={"wsgi.input": Untouchable(), "CONTENT_LENGTH": "1000"},
    )
    calls.assert_problem(answer, 401, "missing_api_key")


def test_every_response_is_json_that_must_not_be_cached_or_sniffed(api, photo):
    job_id = calls.submit(api, photo).get_json()["id"]
    ids = set()
    for path, status in ((f"/v1/jobs/{job_id}", 200), ("/v1/jobs", 200), ("/nowhere", 404)):
        answer = api.get(path)
        assert answer.status_code == status
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["X-Request-Id"])
        ids.add(answer.headers["X-Request-Id"])
    assert len(ids) == 3
