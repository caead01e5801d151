"""The videos API of a real server, called by OpenAI's unmodified client."""

import warnings

import openai
import pytest

from app.objects import open_objects
from app.store.job import attempts, jobs
from tests.support import calls, make

CLIP = bytes(range(256)) * 40


@pytest.fixture
def videos(server, api_key):
    # The client warns that the vendor will end its own service.
    warnings.simplefilter("ignore", DeprecationWarning)
    with openai.OpenAI(base_url=f"{server}/v1", api_key=api_key, max_retries=0) as client:
        yield client.videos


@pytest.fixture
def objects(settings):
    return open_objects(
        settings.objects_url, secret_key=settings.secret_key, public_url=settings.public_url
    )


def begin(store, video):
    with store.begin() as tx:
        [placed] = make.place(tx, video.model, "us-east", "us-east", ["token"])
        assert str(placed.job_id) == video.id
        make.begin(tx, placed.job_id, placed.fence, worker="w1")
    return placed


def test_a_picture_becomes_a_video_by_openais_client(videos, photo, store, objects):
    made = videos.create(
        prompt="gentle waves",
        model="motion-small",
        seconds="4",
        size="512x288",
        input_reference=("photo.jpg", photo, "image/jpeg"),
    )
    assert (made.object, made.status, made.progress) == ("video", "queued", 0)
    assert (made.seconds, made.size, made.prompt) == ("4", "512x512", "gentle waves")
    with store.autocommit() as conn:
        row = jobs.read(conn, made.id)
    assert (row.frames, row.fps, row.size) == (96, 24, 512)
    placed = begin(store, made)
    assert videos.retrieve(made.id).status == "in_progress"
    with pytest.raises(openai.ConflictError) as early:
        videos.download_content(made.id)
    assert early.value.code == "job_not_finished"
    objects.put("outputs/clip.mp4", CLIP, "video/mp4")
    with store.autocommit() as conn:
        attempts.finish(
            conn, placed.job_id, placed.fence, "outputs/clip.mp4", len(CLIP), lease_token=make.LEASE
        )
    ended = videos.retrieve(made.id)
    assert (ended.status, ended.progress, ended.error) == ("completed", 100, None)
    assert ended.created_at <= ended.completed_at < ended.expires_at
    assert videos.download_content(made.id).read() == CLIP
    assert videos.delete(made.id).deleted is True
    with pytest.raises(openai.APIStatusError) as gone:
        videos.retrieve(made.id)
    assert (gone.value.status_code, gone.value.code) == (410, "job_deleted")


def test_the_clients_own_polling_ends_with_a_failed_job(videos, photo, store):
    made = videos.create(prompt="", input_reference=("a.jpg", photo, "image/jpeg"))
    with store.begin() as tx:
        jobs.cancel(tx, made.id, owner_id=jobs.read(tx, made.id).owner_id)
    ended = videos.poll(made.id)
    assert (ended.status, ended.error.code) == ("failed", "canceled")


def test_lists_go_both_ways_by_page(videos, photo):
    made = [
        videos.create(prompt=str(n), input_reference=("a.jpg", photo, "image/jpeg")).id
        for n in range(3)
    ]
    assert [video.id for video in videos.list(limit=2)] == made[::-1], (
        "the client fetches further pages"
    )
    assert [video.id for video in videos.list(limit=2, order="asc")] == made
    first = videos.list(limit=2)
    assert (len(first.data), first.has_more, first.last_id) == (2, True, made[1])


def test_a_picture_may_be_a_data_uri(api, photo):
    body = {"prompt": "", "input_reference": {"image_url": calls.data_uri(photo)}}
    assert api.post("/v1/videos", json=body).status_code == 200


def test_long_videos_get_fewer_frames_a_second_and_large_boxes_the_largest_size(api, photo, store):
    body = {
        "prompt": "",
        "input_reference": {"image_url": calls.data_uri(photo)},
        "seconds": "12",
        "size": "1280x720",
    }
    made = api.post("/v1/videos", json=body).get_json()
    assert (made["seconds"], made["size"]) == ("12", "1024x1024")
    with store.autocommit() as conn:
        row = jobs.read(conn, made["id"])
    assert (row.frames, row.fps) == (96, 8)


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"seconds": "13"}, "invalid_field", "/seconds"),
        ({"seconds": "two"}, "invalid_field", "/seconds"),
        ({"size": "large"}, "invalid_field", "/size"),
        ({"model": "sora-2"}, "unknown_model", "/model"),
        ({"colour": "red"}, "unknown_field", "/colour"),
        ({"prompt": None}, "invalid_field", "/prompt"),
        ({"input_reference": None}, "invalid_field", "/input_reference"),
        (
            {"input_reference": {"image_url": "http://10.0.0.1/a.jpg"}},
            "url_not_allowed",
            "/input_reference/image_url",
        ),
        (
            {"input_reference": {"image_url": "data:image/png;base64,AAAA"}},
            "not_an_image",
            "/input_reference/image_url",
        ),
    ],
)
def test_errors_are_named_for_both_kinds_of_client(api, photo, change, code, pointer):
    good = {"prompt": "", "input_reference": {"image_url": calls.data_uri(photo)}}
    answer = api.post("/v1/videos", json=good | change)
    problem = calls.assert_problem(answer, answer.status_code, code, pointer)
    assert 400 <= answer.status_code < 500
    assert problem["error"]["code"] == code
    assert problem["error"]["param"] == pointer[1:]


def test_a_form_without_a_picture_names_it(api):
    answer = api.post("/v1/videos", data={"prompt": "x"}, content_type="multipart/form-data")
    calls.assert_problem(answer, 422, "missing_field", "/input_reference")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PUT", "/v1/videos", 405, "method_not_allowed"),
        ("PATCH", "/v1/videos/x", 405, "method_not_allowed"),
        ("POST", "/v1/videos/x/remix", 404, "not_found"),
        ("GET", "/v1/videos/x/content/y", 404, "not_found"),
        ("GET", "/v1/videos/", 404, "not_found"),
        ("GET", "/v1/videos/x", 404, "job_not_found"),
    ],
)
def test_unknown_paths_and_methods_have_openais_error_too(api, method, path, status, code):
    answer = api.open(path, method=method)
    assert calls.assert_problem(answer, status, code)["error"]["code"] == code
    assert answer.get_json(force=True)["error"]["type"] == "invalid_request_error"


def test_other_paths_have_no_openai_error(api):
    for path in ("/v1/videosx", "/v1/jobs/x", "/nowhere"):
        assert "error" not in api.get(path).get_json(force=True)


def test_only_the_video_itself_is_a_variant(api, photo):
    body = {"prompt": "", "input_reference": {"image_url": calls.data_uri(photo)}}
    made = api.post("/v1/videos", json=body).get_json()
    answer = api.get(f"/v1/videos/{made['id']}/content?variant=thumbnail")
    calls.assert_problem(answer, 422, "invalid_field", "/variant")


def test_a_wrong_key_is_openais_authentication_error(server):
    with (
        openai.OpenAI(base_url=f"{server}/v1", api_key="sm_wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        client.videos.list()
    assert refused.value.code == "invalid_api_key"
