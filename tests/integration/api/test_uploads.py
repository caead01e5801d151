"""Pictures sent ahead by a presigned PUT, then submitted by id."""

import os
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from app.store import keys
from tests.support import calls
from workers.cpu import housekeeping


def create(client, size):
    return client.post("/v1/uploads", json={"size_bytes": size})


def put(client, url, data):
    parts = urlsplit(url)
    return client.put(f"{parts.path}?{parts.query}", data=data)


@pytest.fixture
def uploaded(api, anonymous, photo):
    upload = create(api, len(photo)).get_json()
    assert put(anonymous, upload["url"], photo).status_code == 200, "the URL is the authority"
    return upload["id"]


def test_an_upload_is_submitted_by_its_id_in_json_and_in_a_form(
    api, photo, store, objects_dir, uploaded
):
    direct = calls.submit(api, photo).get_json()["id"]
    by_json = calls.submit_json(api, upload_id=uploaded)
    by_form = api.post("/v1/jobs", data={"upload_id": uploaded}, content_type="multipart/form-data")
    assert (by_json.status_code, by_form.status_code) == (202, 202)
    pictures = {
        (objects_dir / f"inputs/{one}.jpg").read_bytes()
        for one in (direct, by_json.get_json()["id"], by_form.get_json()["id"])
    }
    assert len(pictures) == 1


def test_a_submit_by_upload_is_idempotent_even_when_the_upload_is_gone(api, objects_dir, uploaded):
    key = {"Idempotency-Key": "k"}
    first = api.post("/v1/jobs", json={"upload_id": uploaded}, headers=key)
    [path] = [one for one in calls.objects_in(objects_dir) if one.startswith("uploads/")]
    (objects_dir / path).unlink()
    again = api.post("/v1/jobs", json={"upload_id": uploaded}, headers=key)
    assert (again.status_code, again.get_json()["id"]) == (202, first.get_json()["id"])


def test_a_missing_upload_and_one_of_another_owner_are_unknown(api, anonymous, store, uploaded):
    nothing_sent = create(api, 10).get_json()["id"]
    for unknown in (str(uuid4()), nothing_sent):
        answer = calls.submit_json(api, upload_id=unknown)
        calls.assert_problem(answer, 422, "upload_not_found", "/upload_id")
    with store.begin() as tx:
        stranger = {"Authorization": f"Bearer {keys.create(tx, 'stranger')[1]}"}
    answer = anonymous.post("/v1/jobs", json={"upload_id": uploaded}, headers=stranger)
    calls.assert_problem(answer, 422, "upload_not_found", "/upload_id")


def test_an_upload_obeys_the_same_rules_as_any_picture(api, anonymous):
    upload = create(api, 5).get_json()
    put(anonymous, upload["url"], b"hello")
    answer = calls.submit_json(api, upload_id=upload["id"])
    calls.assert_problem(answer, 422, "not_an_image", "/upload_id")


def test_exactly_one_picture_is_required(api, photo, uploaded):
    both = calls.submit_json(api, upload_id=uploaded, image=calls.data_uri(photo))
    calls.assert_problem(both, 422, "invalid_field", "/image")
    both = calls.submit(api, photo, upload_id=uploaded)
    calls.assert_problem(both, 422, "invalid_field", "/image")
    calls.assert_problem(calls.submit_json(api), 422, "missing_field", "/image")
    wrong = calls.submit_json(api, upload_id="x")
    calls.assert_problem(wrong, 422, "invalid_field", "/upload_id")


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({}, 422, "missing_field", "/size_bytes"),
        ({"size_bytes": 0}, 422, "invalid_field", "/size_bytes"),
        ({"size_bytes": "9"}, 422, "invalid_field", "/size_bytes"),
        ({"size_bytes": 9, "name": "x"}, 422, "unknown_field", "/name"),
        ({"size_bytes": 25_000_001}, 413, "upload_too_large", "/size_bytes"),
    ],
)
def test_an_invalid_upload_is_refused(api, body, status, code, pointer):
    calls.assert_problem(api.post("/v1/uploads", json=body), status, code, pointer)


def test_the_url_takes_exactly_what_it_was_made_for(api, anonymous, objects_dir, photo):
    upload = create(api, len(photo)).get_json()
    url = upload["url"]
    calls.assert_problem(put(anonymous, url, photo[:-1]), 400, "upload_size_mismatch")
    calls.assert_problem(put(anonymous, url, photo + b"x"), 413, "body_too_large")
    for other in (url.replace("size=", "size=1"), url.replace(upload["id"], str(uuid4()))):
        calls.assert_problem(put(anonymous, other, photo), 403, "bad_signature")
    parts = urlsplit(url)
    read = anonymous.get(f"{parts.path}?{parts.query}")
    calls.assert_problem(read, 403, "bad_signature")
    assert calls.objects_in(objects_dir) == []


def test_a_read_url_cannot_write(api, anonymous, app, photo):
    objects = app.extensions["services"].objects
    objects.put("outputs/a.mp4", b"clip", "video/mp4")
    url = objects.signed_url("outputs/a.mp4", expires_s=60, filename="5")
    calls.assert_problem(put(anonymous, url, b"other"), 403, "bad_signature")
    assert objects.get("outputs/a.mp4") == b"clip"


def test_uploads_are_swept_after_a_day(app, store, objects_dir, uploaded):
    objects = app.extensions["services"].objects
    [path] = calls.objects_in(objects_dir)
    now = datetime.now(UTC)
    assert housekeeping.remove_unreferenced(store, objects, now) == 0
    past = time.time() - 86_500
    os.utime(objects_dir / path, (past, past))
    assert housekeeping.remove_unreferenced(store, objects, now) == 1
    assert calls.objects_in(objects_dir) == []


def test_over_the_wire_with_a_real_server(server, api_key, photo):
    headers = {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=server, timeout=60) as client:
        upload = client.post("/v1/uploads", json={"size_bytes": len(photo)}, headers=headers)
        assert upload.status_code == 201
        assert httpx.put(upload.json()["url"], content=photo, timeout=60).status_code == 200
        job = client.post("/v1/jobs", json={"upload_id": upload.json()["id"]}, headers=headers)
        assert job.status_code == 202
