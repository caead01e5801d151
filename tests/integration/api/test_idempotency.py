"""One Idempotency-Key of one owner means one job, whatever happens at the same time."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from app.store import keys
from tests.support import calls

KEY = {"Idempotency-Key": "order-42"}


def test_the_same_request_again_gives_the_same_job(api, photo, store, objects_dir):
    first = calls.submit(api, photo, headers=KEY, prompt="wind")
    again = calls.submit(api, photo, headers=KEY, prompt="wind")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.get_json() == again.get_json()
    assert first.headers["Location"] == again.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert calls.rows_in(store) == 1
    assert len(calls.objects_in(objects_dir)) == 1


def test_a_replay_shows_the_job_as_it_is_now(api, photo):
    job_id = calls.submit(api, photo, headers=KEY).get_json()["id"]
    api.post(f"/v1/jobs/{job_id}/cancel")
    again = calls.submit(api, photo, headers=KEY)
    assert (again.status_code, again.get_json()["state"]) == (202, "canceled")


def test_a_form_and_json_with_the_same_content_are_the_same_request(api, photo, store):
    form = calls.submit(api, photo, headers=KEY, prompt="wind", frames=16)
    body = {"image": calls.data_uri(photo), "prompt": "wind", "frames": 16}
    again = api.post("/v1/jobs", json=body, headers=KEY)
    assert again.get_json()["id"] == form.get_json()["id"]


@pytest.mark.parametrize("change", [{"prompt": "rain"}, {"seed": 1}, {"metadata": '{"a": "b"}'}])
def test_another_request_with_the_same_key_is_refused(api, photo, store, change):
    calls.submit(api, photo, headers=KEY, prompt="wind")
    answer = calls.submit(api, photo, headers=KEY, **({"prompt": "wind"} | change))
    calls.assert_problem(answer, 422, "idempotency_key_reused")
    assert calls.rows_in(store) == 1


def test_another_picture_with_the_same_key_is_refused_before_decoding(api, photo, objects_dir):
    calls.submit(api, photo, headers=KEY)
    answer = calls.submit(api, b"not even a picture", headers=KEY)
    calls.assert_problem(answer, 422, "idempotency_key_reused")
    assert len(calls.objects_in(objects_dir)) == 1


def test_two_owners_may_use_the_same_key(api, anonymous, photo, store):
    with store.begin() as tx:
        other = {"Authorization": f"Bearer {keys.create(tx, 'other')[1]}"}
    mine = calls.submit(api, photo, headers=KEY).get_json()
    theirs = calls.submit(anonymous, photo, headers=KEY | other).get_json()
    assert mine["id"] != theirs["id"]


def test_a_refused_request_does_not_use_up_its_key(api, photo):
    calls.assert_problem(calls.submit(api, b"", headers=KEY), 422, "empty_image")
    assert calls.submit(api, photo, headers=KEY).status_code == 202


def test_fifty_submits_at_once_with_one_key_make_one_job(
    server, api_key, photo, store, objects_dir
):
    headers = KEY | {"Authorization": f"Bearer {api_key}"}

    def submit(_):
        with httpx.Client(base_url=server, timeout=60) as client:
            return client.post("/v1/jobs", files={"image": photo}, headers=headers)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(submit, range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert calls.rows_in(store) == 1
    assert len(calls.objects_in(objects_dir)) == 1
