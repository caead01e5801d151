"""Behaviour that needs a real server: HEAD, byte ranges, logs."""

import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from app.objects import open_objects
from tests.support import services

CLIP = bytes(range(256)) * 40


@pytest.fixture
def objects(settings):
    return open_objects(
        settings.objects_url, secret_key=settings.secret_key, public_url=settings.public_url
    )


@pytest.fixture
def url(server, objects) -> str:
    objects.put("outputs/a.mp4", CLIP, "video/mp4")
    return objects.signed_url(
        "outputs/a.mp4", expires_s=60, filename="a.mp4", content_type="video/mp4"
    )


def test_a_signed_file_comes_whole_with_its_headers(url):
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, CLIP)
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Content-Length"] == str(len(CLIP))
    assert answer.headers["Content-Disposition"] == "inline; filename=a.mp4"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"].startswith("private, max-age=")
    again = httpx.get(url, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_head_has_the_headers_of_get_and_no_body(url):
    answer = httpx.head(url)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(CLIP))
    assert answer.headers["Content-Type"] == "video/mp4"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=10000-", 10_000, len(CLIP)),
     ("bytes=-5", len(CLIP) - 5, len(CLIP)), ("bytes=5-999999", 5, len(CLIP))],
)  # fmt: skip
def test_a_byte_range_returns_just_that_range(url, asked, start, end):
    answer = httpx.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, CLIP[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(CLIP)}"
    assert answer.headers["Content-Length"] == str(end - start)


def test_a_range_beyond_the_end_is_416_and_odd_ones_are_ignored(url):
    answer = httpx.get(url, headers={"Range": f"bytes={len(CLIP)}-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(CLIP)}"
    for ignored in ("bytes=0-1,5-6", "lines=1-2"):
        answer = httpx.get(url, headers={"Range": ignored})
        assert (answer.status_code, answer.content) == (200, CLIP)


def test_a_changed_expired_or_missing_signature_is_refused(url, server, objects):
    other = url.replace("outputs/a.mp4", "outputs/b.mp4")
    objects.put("outputs/b.mp4", b"b", "video/mp4")
    longer = url.replace("expires=", "expires=9")
    renamed = url.replace("filename=a.mp4", "filename=b.html")
    typed = url.replace("video%2Fmp4", "text%2Fhtml")
    assert len({url, other, longer, renamed, typed}) == 5
    for bad in (other, longer, renamed, typed, url.split("?")[0], url + "x"):
        answer = httpx.get(bad)
        assert (answer.status_code, answer.json()["code"]) == (403, "bad_signature"), bad
    soon = objects.signed_url("outputs/a.mp4", expires_s=5)
    assert httpx.get(soon).status_code == 200
    deadline = time.monotonic() + 30
    while (answer := httpx.get(soon)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert (answer.status_code, answer.json()["code"]) == (403, "url_expired")
    for path in ("../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", ".partial/x"):
        assert httpx.get(f"{server}/v1/objects/{path}").status_code in (403, 404)


def test_a_file_that_is_gone_is_a_404(url, objects):
    objects.delete("outputs/a.mp4")
    answer = httpx.get(url)
    assert (answer.status_code, answer.json()["code"]) == (404, "object_missing")


def test_the_log_has_a_line_per_request_and_no_secret(_server, server, url, api_key, photo):
    httpx.get(url)
    headers = {"Authorization": f"Bearer {api_key}"}
    answer = httpx.post(f"{server}/v1/jobs", files={"image": photo}, headers=headers)
    text = _server[1].read_text()
    assert "signature=" not in text
    assert urlsplit(url).query not in text
    assert api_key not in text
    [line] = [
        line
        for line in services.log_lines(_server[1])
        if line.get("request_id") == answer.headers["X-Request-Id"]
    ]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/jobs", 202)
    assert not [line for line in services.log_lines(_server[1]) if "raw" in line]


def test_many_clients_at_once_are_all_answered(server, api_key, photo, store):
    """At once on a quick machine; a slow one asks some of them to come again."""
    headers = {"Authorization": f"Bearer {api_key}"}

    def submit(_):
        until = time.monotonic() + 60
        while True:
            answer = httpx.post(
                f"{server}/v1/jobs", files={"image": photo}, headers=headers, timeout=60
            )
            if answer.status_code != 503 or time.monotonic() > until:
                return answer.status_code
            time.sleep(int(answer.headers["Retry-After"]))

    with ThreadPoolExecutor(30) as pool:
        assert set(pool.map(submit, range(60))) == {202}
