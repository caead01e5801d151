"""Bad input gets a 4xx with a stable code and stores nothing."""

import contextlib
import io
import json
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from PIL import Image

from app.api.application import create_app
from tests.support import calls

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100"/>'


def png_of(width, height) -> bytes:
    """A PNG whose header claims a size that its few data bytes do not have."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.fixture
def nothing_stored(store, objects_dir):
    """Check after the test that no job, idempotency record or object was stored."""
    yield
    assert calls.rows_in(store) == 0
    assert calls.rows_in(store, "idempotency_records") == 0
    assert calls.objects_in(objects_dir) == []


pytestmark = pytest.mark.usefixtures("nothing_stored")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        pytest.param(b"", 422, "empty_image", id="0 bytes"),
        pytest.param(b"hello, this is text", 422, "not_an_image", id="text"),
        pytest.param(png_of(50_000, 50_000), 413, "image_too_large", id="pixel bomb"),
        pytest.param(EPS, 415, "unsupported_image_format", id="eps"),
        pytest.param(SVG, 415, "unsupported_image_format", id="svg"),
    ],
)
def test_a_bad_picture_is_refused_in_a_form_and_in_json(api, data, status, code):
    key = {"Idempotency-Key": "k"}
    calls.assert_problem(calls.submit(api, data, headers=key), status, code, "/image")
    calls.assert_problem(calls.submit_json(api, image=calls.data_uri(data)), status, code, "/image")


def test_a_truncated_picture_is_refused(api, photo):
    answer = calls.submit(api, photo[: len(photo) // 2])
    calls.assert_problem(answer, 422, "truncated_image", "/image")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("promt", "typo", "unknown_field"),
        ("steps", 50, "unknown_field"),
        ("prompt", "x" * 10_000, "prompt_too_long"),
        ("prompt", "x" * 1001, "prompt_too_long"),
        ("prompt", "nul \x00 byte", "invalid_field"),
        ("prompt", 5, "invalid_field"),
        ("region", "mars", "unknown_region"),
        ("region", "", "unknown_region"),
        ("model", "sora", "unknown_model"),
        ("model", "../etc", "unknown_model"),
        ("frames", "16", "invalid_field"),
        ("frames", 16.5, "invalid_field"),
        ("frames", True, "invalid_field"),
        ("frames", 7, "invalid_field"),
        ("frames", 97, "invalid_field"),
        ("motion", 2.1, "invalid_field"),
        ("motion", -0.1, "invalid_field"),
        ("motion", "1", "invalid_field"),
        ("loop", 1, "invalid_field"),
        ("fps", 0, "invalid_field"),
        ("size", 100_000, "invalid_field"),
        ("seed", -1, "invalid_field"),
        ("seed", 2**63, "invalid_field"),
        ("seed", 10**40, "invalid_field"),
        ("policy", "nearest", "invalid_field"),
        ("allowed_regions", [], "invalid_field"),
        ("allowed_regions", ["eu-west"], "invalid_field"),
        ("allowed_regions", "us-east", "invalid_field"),
        ("metadata", {"a": 1}, "invalid_field"),
        ("metadata", {"a": {"b": "c"}}, "invalid_field"),
        ("metadata", {"a": "nul \x00"}, "invalid_field"),
        ("metadata", {str(n): "" for n in range(17)}, "invalid_field"),
        ("metadata", {"k" * 65: ""}, "invalid_field"),
        ("metadata", {"k": "v" * 513}, "invalid_field"),
        ("max_queue_seconds", 9, "invalid_field"),
        ("max_queue_seconds", 86_401, "invalid_field"),
        ("deadline_seconds", 0, "invalid_field"),
        ("priority", 3, "invalid_field"),
        ("webhook_url", "http://example.com/", "url_not_allowed"),
        ("webhook_url", "https://127.0.0.1/", "url_not_allowed"),
        ("webhook_url", "https://user:pw@example.com/", "url_not_allowed"),
        ("webhook_url", "ftp://example.com/", "url_not_allowed"),
        ("webhook_url", "nonsense", "url_not_allowed"),
    ],
)
def test_a_wrong_field_in_json_is_named(api, photo, name, value, code):
    answer = calls.submit_json(api, **{"image": calls.data_uri(photo), name: value})
    body = calls.assert_problem(answer, 422, code)
    assert body["errors"][0]["pointer"].startswith(f"/{name}")


def test_an_unknown_allowed_region_is_named_by_its_index(api, photo):
    answer = calls.submit_json(
        api, image=calls.data_uri(photo), allowed_regions=["us-east", "mars"]
    )
    calls.assert_problem(answer, 422, "unknown_region", "/allowed_regions/1")


def test_all_errors_are_reported_at_once_with_escaped_pointers(api, photo):
    answer = calls.submit_json(
        api, image=calls.data_uri(photo), frames="x", seed=-1, **{"a/b~c": 1}
    )
    body = calls.assert_problem(answer, 422, "unknown_field")
    pointers = {fault["pointer"]: fault["code"] for fault in body["errors"]}
    assert pointers == {
        "/a~1b~0c": "unknown_field",
        "/frames": "invalid_field",
        "/seed": "invalid_field",
    }


def test_a_refusal_does_not_echo_the_input(api, photo):
    answer = calls.submit_json(api, image=calls.data_uri(photo), frames="s3cret-value")
    assert b"s3cret-value" not in answer.data


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"promt": "typo"}, "unknown_field", "/promt"),
        ({"frames": "sixteen"}, "invalid_field", "/frames"),
        ({"frames": ["16", "24"]}, "invalid_field", "/frames"),
        ({"seed": ""}, "invalid_field", "/seed"),
        ({"metadata": "not json"}, "invalid_field", "/metadata"),
        ({"metadata": '{"a": 1}'}, "invalid_field", "/metadata/a"),
        ({"metadata": "[" * 100_000}, "invalid_field", "/metadata"),
        ({"prompt": "x" * 10_000}, "prompt_too_long", "/prompt"),
        ({"region": "mars"}, "unknown_region", "/region"),
    ],
)
def test_a_wrong_field_in_a_form_is_named(api, photo, fields, code, pointer):
    calls.assert_problem(calls.submit(api, photo, **fields), 422, code, pointer)


def test_a_form_has_exactly_one_picture_and_no_other_file(api, photo):
    def post(**files):
        return api.post("/v1/jobs", data=files, content_type="multipart/form-data")

    def file(name="a.jpg"):
        return io.BytesIO(photo), name

    calls.assert_problem(post(prompt="x"), 422, "missing_field", "/image")
    calls.assert_problem(post(image="https://example.com/"), 422, "invalid_field", "/image")
    calls.assert_problem(post(image=[file(), file()]), 422, "invalid_field", "/image")
    calls.assert_problem(post(image=file(), mask=file()), 422, "unknown_field", "/mask")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b'{"image": "\\ud800"}', 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"null", 422, "invalid_field"),
        (b"[]", 422, "invalid_field"),
        (b"{}", 422, "missing_field"),
        (b'{"image": null}', 422, "missing_field"),
        (b'{"image": ""}', 422, "invalid_field"),
        (b'{"image": "data:image/jpeg;base64,***"}', 422, "invalid_field"),
        (b'{"image": "data:image/jpeg,abc"}', 422, "not_an_image"),
        (b'{"image": "data:image/jpeg"}', 422, "invalid_field"),
        (b'{"image": "nonsense"}', 422, "url_not_allowed"),
    ],
)
def test_json_that_is_not_a_job_request_is_refused(api, body, status, code):
    answer = api.post("/v1/jobs", data=body, content_type="application/json")
    calls.assert_problem(answer, status, code)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_another_media_type_is_refused(api, content_type):
    answer = api.post("/v1/jobs", data=b"image=x", content_type=content_type)
    calls.assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "ключ"])
def test_an_invalid_idempotency_key_is_refused(api, photo, key):
    headers = {"Idempotency-Key": key.encode().decode("latin-1")}
    answer = calls.submit(api, photo, headers=headers)
    calls.assert_problem(answer, 400, "invalid_idempotency_key")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.jpg",
        "https://127.0.0.1/a.jpg",
        "https://localhost/a.jpg",
        "https://10.0.0.1/a.jpg",
        "https://[::1]/a.jpg",
        "https://169.254.169.254/latest/meta-data/",
        "https://2130706433/a.jpg",
        "file:///etc/passwd",
    ],
)
def test_a_url_that_does_not_lead_to_the_public_internet_is_refused(api, url):
    calls.assert_problem(calls.submit_json(api, image=url), 422, "url_not_allowed", "/image")


@pytest.fixture
def origin(photo):
    """A picture server on the loopback: /photo, /text, /redirect, /missing, /huge."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = {"/photo": photo, "/text": b"hello", "/huge": b"\0" * 30_000_000}.get(self.path)
            status = 302 if self.path == "/redirect" else 200 if body is not None else 404
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/photo")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the guard hangs up at its size limit
                self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def trusting(change, origin, api_key):
    """A client of a deployment that allows the origin."""
    app = create_app(change(outbound_allow=origin))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    yield client
    app.extensions["services"].close()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/redirect", 422, "url_redirects"),
        ("/missing", 422, "url_bad_status"),
        ("/huge", 422, "url_too_large"),
        ("/text", 422, "not_an_image"),
    ],
)
def test_a_url_without_a_picture_is_refused(trusting, origin, path, status, code):
    answer = calls.submit_json(trusting, image=f"http://{origin}{path}")
    calls.assert_problem(answer, status, code, "/image")


def test_unknown_routes_and_methods_are_problems_too(api):
    calls.assert_problem(api.get("/v2/jobs"), 404, "not_found")
    answer = api.delete("/v1/jobs")
    calls.assert_problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


def test_a_bug_in_our_code_is_a_problem_without_a_traceback(app, api):
    @app.get("/broken")
    def broken():
        raise ZeroDivisionError("s3cret")

    body = calls.assert_problem(api.get("/broken"), 500, "internal_error")
    assert "s3cret" not in json.dumps(body)


def test_an_upload_of_200_mb_is_refused_over_the_wire_without_being_kept(server, api_key):
    def body():
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(200):
            yield b"\xff" * 1_000_000
        yield b"\r\n--b--\r\n"

    headers = {
        "Authorization": f"Bearer {api_key}",
        "Content-Type": "multipart/form-data; boundary=b",
    }
    declared = headers | {"Content-Length": str(200_000_000 + 100)}
    with httpx.Client(base_url=server) as client:
        # The second is chunked: no length is known.
        for sent in (declared, headers):
            answer = client.post("/v1/jobs", content=body(), headers=sent)
            assert answer.status_code == 413
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["code"] == "body_too_large"


def test_a_picture_just_over_the_limit_is_refused_by_its_own_code(api):
    calls.assert_problem(
        calls.submit(api, b"\xff\xd8\xff" + bytes(25_000_000)), 413, "upload_too_large", "/image"
    )


def test_a_normal_picture_of_every_kind_is_still_accepted(api, store, objects_dir):
    """The tests above would also pass if everything were refused."""
    for fmt in ("PNG", "WEBP", "GIF", "BMP", "TIFF"):
        out = io.BytesIO()
        Image.new("RGB", (64, 64), "teal").save(out, fmt)
        job = calls.submit(api, out.getvalue()).get_json()
        with store.begin() as tx:
            tx.exec_driver_sql("DELETE FROM jobs")
        (objects_dir / f"inputs/{job['id']}.jpg").unlink()
