"""Deleted and expired jobs lose clip, picture and text, and answer 410 from then on."""

from datetime import datetime

import pytest

from app.store import keys
from app.store.job import attempts, retention
from tests.integration.api.test_jobs import finish, place_and_begin
from tests.support import calls, make
from workers.cpu import housekeeping

KEY = {"Idempotency-Key": "order-42"}


@pytest.fixture
def objects(app):
    return app.extensions["services"].objects


@pytest.fixture
def finished(api, photo, store, objects):
    """A succeeded job with its clip."""
    job_id = calls.submit(api, photo, headers=KEY, prompt="wind", metadata='{"a": "b"}').get_json()[
        "id"
    ]
    placed = place_and_begin(store, job_id)
    key = f"outputs/{job_id}/{placed.fence}.mp4"
    objects.put(key, b"clip", "video/mp4")
    finish(store, placed, key=key)
    return job_id


def test_deleting_a_finished_job_removes_everything_it_held(
    api, anonymous, store, objects_dir, finished
):
    url = api.get(f"/v1/jobs/{finished}").get_json()["output"]["url"]
    assert anonymous.get(url).status_code == 200
    answer = api.delete(f"/v1/jobs/{finished}")
    assert (answer.status_code, answer.data) == (204, b"")
    assert calls.objects_in(objects_dir) == []
    assert anonymous.get(url).status_code == 404, "earlier links are dead"
    for path in ("", "/video", "/events", "/timeline"):
        calls.assert_problem(api.get(f"/v1/jobs/{finished}{path}"), 410, "job_deleted")
    calls.assert_problem(api.post(f"/v1/jobs/{finished}/cancel"), 410, "job_deleted")
    calls.assert_problem(api.delete(f"/v1/jobs/{finished}"), 410, "job_deleted")
    assert api.get("/v1/jobs").get_json()["data"] == []
    row = make.read(store, finished)
    assert (row.prompt, row.metadata) == ("", {})


def test_a_replay_after_the_deletion_is_410_and_makes_no_second_job(
    api, photo, store, objects_dir, finished
):
    api.delete(f"/v1/jobs/{finished}")
    again = calls.submit(api, photo, headers=KEY, prompt="wind", metadata='{"a": "b"}')
    calls.assert_problem(again, 410, "job_deleted")
    calls.assert_problem(
        calls.submit(api, photo, headers=KEY, prompt="rain"), 422, "idempotency_key_reused"
    )
    assert calls.rows_in(store) == 1
    assert calls.objects_in(objects_dir) == []


def test_deleting_a_waiting_job_cancels_it_at_once(api, photo, store, objects_dir):
    job_id = calls.submit(api, photo).get_json()["id"]
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    row = make.read(store, job_id)
    assert (row.state, row.purged_at is not None) == ("canceled", True)
    assert calls.objects_in(objects_dir) == []


def test_deleting_a_processing_job_stops_it_and_removes_it_at_its_end(
    api, photo, store, objects_dir
):
    job_id = calls.submit(api, photo).get_json()["id"]
    placed = place_and_begin(store, job_id)
    answer = api.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.get_json()["state"]) == (202, "processing")
    assert api.get(f"/v1/jobs/{job_id}").status_code == 200
    with store.autocommit() as conn:
        assert attempts.stop(conn, placed.job_id, placed.fence, lease_token=make.LEASE)
    calls.assert_problem(api.get(f"/v1/jobs/{job_id}"), 410, "job_deleted")
    services = api.application.extensions["services"]
    assert housekeeping.purge_expired(store, services.objects) == 1
    assert calls.objects_in(objects_dir) == []


def test_another_owners_job_cannot_be_deleted(api, anonymous, store, finished):
    with store.begin() as tx:
        stranger = {"Authorization": f"Bearer {keys.create(tx, 'stranger')[1]}"}
    answer = anonymous.delete(f"/v1/jobs/{finished}", headers=stranger)
    calls.assert_problem(answer, 404, "job_not_found")
    assert api.get(f"/v1/jobs/{finished}").status_code == 200


def test_retention_counts_from_the_end_and_no_link_outlives_it(
    api, photo, store, objects, objects_dir
):
    job = calls.submit(api, photo, retention_seconds=100).get_json()
    assert (job["retention_seconds"], job["expires_at"]) == (100, None)
    placed = place_and_begin(store, job["id"])
    objects.put(f"outputs/{job['id']}/1.mp4", b"clip", "video/mp4")
    finish(store, placed, key=f"outputs/{job['id']}/1.mp4")
    shown = api.get(f"/v1/jobs/{job['id']}").get_json()
    row = make.read(store, job["id"])
    assert (row.expires_at - row.finished_at).total_seconds() == 100
    ends = [datetime.fromisoformat(each["expires_at"]) for each in (shown["output"], shown)]
    assert ends == sorted(ends)
    assert housekeeping.purge_expired(store, objects) == 0
    make.backdate(store, job["id"], "expires_at")
    calls.assert_problem(api.get(f"/v1/jobs/{job['id']}"), 410, "job_deleted")
    assert calls.objects_in(objects_dir), "refused even before the sweep"
    assert housekeeping.purge_expired(store, objects) == 1
    assert calls.objects_in(objects_dir) == []
    assert make.read(store, job["id"]).purged_at is not None


def test_the_sweeper_finishes_a_deletion_that_storage_interrupted(store, finished):
    """The tombstone no longer names the objects, so the sweeper treats them as orphans."""
    row = make.read(store, finished)
    with store.autocommit() as conn:
        assert retention.named_keys(conn, [row.id]) == {row.input_key, row.output_key}
        assert retention.purge(conn, row.id, owner_id=row.owner_id) is not None
        assert retention.named_keys(conn, [row.id]) == set()
        assert retention.purge(conn, row.id, owner_id=row.owner_id) is None, "once"


def test_every_get_signs_a_new_url(api, finished):
    urls = {api.get(f"/v1/jobs/{finished}/video").headers["Location"] for _ in range(2)}
    assert all("signature=" in url for url in urls)


@pytest.mark.parametrize("seconds", [59, 31_536_001, "x"])
def test_a_retention_out_of_bounds_is_refused(api, photo, seconds):
    answer = calls.submit(api, photo, retention_seconds=seconds)
    calls.assert_problem(answer, 422, "invalid_field", "/retention_seconds")
