"""What is sent is used or refused, never ignored or changed: forms, JSON and queries."""

import io
import json
import re
from urllib.parse import quote, urlencode

import httpx
import pytest
from PIL import Image

from app.api.openapi.build import routes
from app.store import keys
from tests.support import calls

VIDEO = "input_reference"


def part(name, data, *, file=False, content_type=None) -> bytes:
    """One part of a form whose boundary is `b`; without a name if that is None."""
    head = b"--b\r\nContent-Disposition: form-data"
    head += b"" if name is None else b'; name="%b"' % name.encode()
    head += b'; filename="a.jpg"' if file else b""
    head += b"" if content_type is None else b"\r\nContent-Type: " + content_type.encode()
    return head + b"\r\n\r\n" + data + b"\r\n"


def post_form(client, *parts, path="/v1/jobs", more="", end=b"--b--\r\n"):
    content_type = f"multipart/form-data; boundary=b{more}"
    return client.post(path, data=b"".join(parts) + end, content_type=content_type)


# Forms.


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/jobs", "image"), ("/v1/videos", VIDEO)], ids=["jobs", "videos"]
)
def test_a_form_that_cannot_be_read_is_a_400(api, photo, path, name):
    picture = part(name, photo, file=True)
    for broken in (
        post_form(api, picture, part(None, b"x"), path=path),
        post_form(api, part(None, photo, file=True), path=path),
        post_form(api, picture, end=b"", path=path),
        post_form(api, b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n", path=path),
        post_form(api, picture.replace(b"a.jpg", b"f\xeate.jpg"), path=path),
        api.post(path, data=picture, content_type="multipart/form-data"),
    ):
        calls.assert_problem(broken, 400, "invalid_form")


def test_text_in_another_charset_is_decoded_if_declared_and_refused_if_not(api, photo):
    picture, prompt = part("image", photo, file=True), "été à la plage"

    def post(encoded, content_type=None, more=""):
        text = part("prompt", encoded, content_type=content_type)
        return post_form(api, picture, text, more=more)

    latin = prompt.encode("latin-1")
    for answer in (
        post(prompt.encode()),
        post(prompt.encode("utf-8-sig"), "text/plain; charset=utf-8-sig"),
        post(latin, "text/plain; charset=ISO-8859-1"),
        post(latin, "text/plain; charset=windows-1252"),
        post(latin, more="; charset=iso-8859-1"),
    ):
        assert answer.status_code == 202, answer.data
        assert answer.get_json()["prompt"] == prompt
    for answer in (
        post(latin),
        post(latin, "text/plain; charset=utf-8"),
        post(latin, "text/plain; charset=us-ascii"),
        post(latin, "text/plain; charset=x-unknown"),
        post(latin, "text/plain; charset=base64"),
    ):
        body = calls.assert_problem(answer, 422, "invalid_field", "/prompt")
        assert "UTF-8" in body["detail"] or "charset" in body["detail"]


def test_undecodable_text_is_refused_wherever_a_form_has_text(api, photo):
    video = post_form(
        api, part(VIDEO, photo, file=True), part("prompt", b"\xe9"), path="/v1/videos"
    )
    calls.assert_problem(video, 422, "invalid_field", "/prompt")
    labels = part("metadata", b'{"a": "\xe9"}')
    answer = post_form(api, part("image", photo, file=True), labels)
    calls.assert_problem(answer, 422, "invalid_field", "/metadata")


def test_a_field_given_twice_is_refused_in_every_kind_of_body(api, photo):
    twice = (part("prompt", b"one"), part("prompt", b"two"))
    form = post_form(api, part("image", photo, file=True), *twice)
    calls.assert_problem(form, 422, "invalid_field", "/prompt")
    form = post_form(api, part(VIDEO, photo, file=True), *twice, path="/v1/videos")
    calls.assert_problem(form, 422, "invalid_field", "/prompt")
    labels = part("metadata", b'{"a": "1", "a": "2"}')
    form = post_form(api, part("image", photo, file=True), labels)
    calls.assert_problem(form, 422, "invalid_field", "/metadata/a")
    for path, body, pointer in (
        ("/v1/jobs", '{"image": "data:,a", "image": "data:,b"}', "/image"),
        ("/v1/jobs", '{"image": "data:,a", "prompt": "a", "prompt": "b"}', "/prompt"),
        ("/v1/jobs", '{"image": "data:,a", "metadata": {"a": "1", "a": "1"}}', "/metadata/a"),
        ("/v1/videos", '{"prompt": "a", "prompt": "a"}', "/prompt"),
        ("/v1/webhooks", '{"url": "https://a.example/", "url": "https://b.example/"}', "/url"),
        ("/v1/uploads", '{"size_bytes": 1, "size_bytes": 2}', "/size_bytes"),
    ):
        answer = api.post(path, data=body, content_type="application/json")
        calls.assert_problem(answer, 422, "invalid_field", pointer)


def test_a_text_in_place_of_the_file_or_next_to_it_is_named(api, photo):
    for path, name in (("/v1/jobs", "image"), ("/v1/videos", VIDEO)):
        text = part(name, b"https://example.com/a.jpg")
        prompt, file = part("prompt", b"x"), part(name, photo, file=True)
        for parts in ((text, prompt), (text, file, prompt), (file, text, prompt)):
            answer = post_form(api, *parts, path=path)
            body = calls.assert_problem(answer, 422, "invalid_field", f"/{name}")
            assert "JSON with a URL" in body["detail"]


def test_a_picture_by_upload_and_by_file_is_refused(api, photo):
    upload = part("upload_id", b"01a0b2c3-0000-7000-8000-000000000000")
    answer = post_form(api, upload, part("image", photo, file=True))
    calls.assert_problem(answer, 422, "invalid_field", "/image")


# Data URIs.


@pytest.mark.parametrize(
    "change",
    [
        lambda uri: uri.replace("data:image/jpeg;base64", "DATA:image/JPEG;BASE64"),
        lambda uri: "\r\n".join(re.findall(".{1,76}", uri)),
        lambda uri: uri.rstrip("="),
        lambda uri: uri.replace("+", "%2B").replace("/", "%2F").replace("image%2Fj", "image/j"),
    ],
    ids=["capitals", "line ends", "no padding", "percent-encoded"],
)
def test_every_legal_data_uri_is_a_picture(api, photo, change):
    uri = change(calls.data_uri(photo + b"\0"))  # its base64 is padded
    assert calls.submit_json(api, image=uri).status_code == 202
    body = {"prompt": "", VIDEO: {"image_url": uri}}
    assert api.post("/v1/videos", json=body).status_code == 200


def test_a_small_picture_may_be_percent_encoded_bytes(api):
    out = io.BytesIO()
    Image.new("P", (16, 16)).save(out, "GIF")
    gif = out.getvalue()
    for uri in (f"data:image/gif,{quote(gif)}", f"data:,{quote(gif, safe='')}"):
        assert calls.submit_json(api, image=uri).status_code == 202, uri


def test_a_form_and_a_data_uri_of_one_picture_are_the_same_request(api, photo):
    key = {"Idempotency-Key": "same"}
    first = calls.submit(api, photo, headers=key)
    second = api.post("/v1/jobs", json={"image": calls.data_uri(photo)}, headers=key)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.get_json()["id"] == first.get_json()["id"]


# Queries.


def test_no_call_ignores_a_parameter(app, store):
    """Every call that needs a key, with one that it does not know and with one given twice."""
    with store.begin() as tx:
        plain = keys.create(tx, "both", ("jobs", "admin"))[1]
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {plain}"
    called = 0
    for rule, method, operation in routes(app):
        if operation.scope is None:
            continue
        path = re.sub(r"<[^>]+>", "01a0b2c3-0000-7000-8000-000000000000", rule.rule)
        known = next(iter(operation.query.model_fields), None) if operation.query else None
        known = "lastEventId" if known == "last_event_id" else known
        unknown = client.open(f"{path}?nonsense=1", method=method)
        calls.assert_problem(unknown, 422, "unknown_field", "/nonsense")
        name = known or "nonsense"
        twice = client.open(f"{path}?{name}=1&{name}=1", method=method)
        calls.assert_problem(twice, 422, "invalid_field", f"/{name}")
        called += 1
    assert called > 30


def test_a_query_that_is_not_utf8_or_endless_is_refused(api):
    calls.assert_problem(api.get("/v1/jobs?metadata[a]=%E9"), 422, "invalid_field")
    many = urlencode({f"metadata[{n}]": "" for n in range(101)})
    calls.assert_problem(api.get(f"/v1/jobs?{many}"), 422, "invalid_field")


def test_a_call_that_takes_no_body_refuses_fields(api, photo):
    job_id = calls.submit(api, photo).get_json()["id"]
    path = f"/v1/jobs/{job_id}/cancel"
    calls.assert_problem(api.post(path, json={"reason": "x"}), 422, "unknown_field", "/reason")
    assert api.post(path, json={}).status_code == 200


@pytest.mark.parametrize(
    "labels",
    [
        {"a]": "x"},
        {"[a][b]": "="},
        {"a&b": "c&d=e"},
        {" ": ""},
        {"a\nb": "\t"},
        {"é": "日本", "😀": "+"},
        {"%41": "%"},
        {"limit": "1", "state": "queued"},
        {str(n): "v" for n in range(16)},
    ],
    ids=repr,
)
def test_every_label_that_is_accepted_can_be_filtered_by(api, photo, labels):
    kept = calls.submit(api, photo, metadata=json.dumps(labels)).get_json()
    assert kept["metadata"] == labels
    other = {name: value + "x" for name, value in labels.items()}
    calls.submit(api, photo, metadata=json.dumps(other))
    query = urlencode({f"metadata[{name}]": value for name, value in labels.items()})
    assert [job["id"] for job in api.get(f"/v1/jobs?{query}").get_json()["data"]] == [kept["id"]]


def test_the_longest_label_fits_into_a_request_line(server, api_key, photo):
    name, value = "\N{GRINNING FACE}" * 64, "\N{BICYCLE}" * 512
    headers = {"Authorization": f"Bearer {api_key}"}
    form = {"metadata": json.dumps({name: value})}
    jobs = f"{server}/v1/jobs"
    job = httpx.post(jobs, files={"image": photo}, data=form, headers=headers, timeout=60)
    found = httpx.get(jobs, params={f"metadata[{name}]": value}, headers=headers, timeout=60)
    assert [each["id"] for each in found.json()["data"]] == [job.json()["id"]]
