"""One suite for both object stores: a local directory, and S3 served by OpenStack Swift."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from app.domain.errors import BadRequest, ObjectMissing, StorageUnavailable
from app.objects import LocalObjects, open_objects
from app.objects.s3 import S3Objects
from scripts.benchmarks.harness import swift_server
from tests.support import hostile
from tests.support.s3 import s3_server

SECRET = "a-secret-key-that-only-the-tests-ever-use"
PUBLIC_URL = "https://api.example.com"


@pytest.fixture(scope="module")
def s3_endpoint():
    """A running S3 server with the bucket `clips`, and boto3's variables set for it."""
    with s3_server() as endpoint_url:
        yield endpoint_url


def open_s3(endpoint_url: str, prefix: str = "", public: str | None = None) -> S3Objects:
    return open_objects(
        f"s3://clips/{prefix}",
        secret_key=SECRET,
        public_url=PUBLIC_URL,
        s3_endpoint_url=endpoint_url,
        s3_public_endpoint_url=public,
    )


def open_local(directory: Path) -> LocalObjects:
    return open_objects(f"file://{directory}", secret_key=SECRET, public_url=PUBLIC_URL)


@pytest.fixture
def local(tmp_path) -> LocalObjects:
    return open_local(tmp_path / "objects")


@pytest.fixture
def s3(s3_endpoint, request) -> S3Objects:
    """A prefix in the bucket for this test alone."""
    return open_s3(s3_endpoint, f"tests/{abs(hash(request.node.nodeid))}")


@pytest.fixture(params=["local", "s3"])
def objects(request):
    return request.getfixturevalue(request.param)


# Both stores


def test_an_object_is_returned_as_it_was_put(objects):
    data = bytes(range(256)) * 4000
    objects.put("inputs/ab/one.jpg", data, "image/jpeg")
    objects.put("inputs/empty", b"", "text/plain")
    assert objects.get("inputs/ab/one.jpg") == data
    assert objects.get("inputs/empty") == b""


def test_a_second_put_replaces_the_first(objects):
    objects.put("a/b", b"first, and longer", "text/plain")
    objects.put("a/b", b"second", "text/plain")
    assert objects.get("a/b") == b"second"
    assert [info.key for info in objects.list()] == ["a/b"]


def test_a_missing_object_is_reported_missing(objects):
    assert objects.head("no/such") is None
    with pytest.raises(ObjectMissing, match="no/such"):
        objects.get("no/such")


def test_a_folder_is_not_an_object(objects):
    objects.put("folder/object", b"x", "text/plain")
    assert objects.head("folder") is None
    assert objects.head("folder/object/below") is None
    for key in ("folder", "folder/object/below"):
        with pytest.raises(ObjectMissing):
            objects.get(key)
        objects.delete(key)
    assert objects.get("folder/object") == b"x"


def test_deleting_twice_is_fine(objects):
    objects.put("a/b/c", b"x", "text/plain")
    objects.put("a/d", b"x", "text/plain")
    objects.delete("a/b/c")
    objects.delete("a/b/c")
    assert objects.head("a/b/c") is None
    assert objects.get("a/d") == b"x"


def test_head_returns_size_and_time(objects):
    before = datetime.now(UTC) - timedelta(seconds=2)  # S3 has whole seconds
    objects.put("a", b"x" * 123, "text/plain")
    info = objects.head("a")
    assert (info.key, info.size) == ("a", 123)
    assert before < info.modified < datetime.now(UTC) + timedelta(seconds=1)


def test_a_listing_is_by_prefix_and_in_order(objects):
    keys = ["a", "b-c/x", "b/a", "b/c/d", "b/c-d", "bc", "c/z"]
    for key in reversed(keys):
        objects.put(key, b"x", "text/plain")
    assert [info.key for info in objects.list()] == sorted(keys)
    assert [info.key for info in objects.list("b/")] == ["b/a", "b/c-d", "b/c/d"]
    assert [info.key for info in objects.list("b/c")] == ["b/c-d", "b/c/d"]
    assert [info.key for info in objects.list("nothing/")] == []


def test_a_listing_can_leave_out_new_objects(objects):
    objects.put("a", b"x", "text/plain")
    now = datetime.now(UTC)
    assert [info.key for info in objects.list(older_than=now - timedelta(minutes=1))] == []
    assert [info.key for info in objects.list(older_than=now + timedelta(minutes=1))] == ["a"]


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/etc/passwd", "../x", "a/../b", "a/..", ".", "..", "a//b", "a/", "./a"),
        *("a\\b", "a\0b", "a b", "a\n", "é", "a/.hidden", ".partial/x", "a?b", "a%2e", "x" * 201),
        "/".join(["x" * 100] * 6),
    ],
)
def test_a_key_that_is_not_a_plain_path_is_refused(objects, key):
    for call in (objects.get, objects.head, objects.delete):
        with pytest.raises(ValueError, match="not a key"):
            call(key)
    with pytest.raises(ValueError, match="not a key"):
        objects.put(key, b"x", "text/plain")
    with pytest.raises(ValueError, match="not a key"):
        objects.signed_url(key, expires_s=60)


@pytest.mark.parametrize(
    "options",
    [
        {"expires_s": 0},
        {"expires_s": 604_801},
        {"expires_s": 60, "filename": 'x"; filename="evil.exe'},
        {"expires_s": 60, "filename": "../x"},
        {"expires_s": 60, "content_type": "text/html\r\nX: y"},
    ],
)
def test_a_url_with_odd_options_is_refused(objects, options):
    with pytest.raises(ValueError, match=r"not a|within"):
        objects.signed_url("a", **options)


def test_a_working_store_is_ready(objects):
    objects.check()


def test_many_threads_share_one_store(objects):
    def work(i: int) -> None:
        for j in range(5):
            key = f"t{i}/{j}"
            objects.put(key, key.encode() * 1000, "text/plain")
            assert objects.get(key) == key.encode() * 1000
            objects.delete(key)
        done.append(i)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))
    assert list(objects.list()) == []


# The local directory


def signed(local: LocalObjects, key: str, **options) -> tuple[str, dict[str, str]]:
    """The key and query of a signed URL, parsed as a server would."""
    parts = urlsplit(local.signed_url(key, **({"expires_s": 60} | options)))
    assert f"{parts.scheme}://{parts.netloc}" == PUBLIC_URL
    assert parts.path.startswith("/v1/objects/")
    return parts.path.removeprefix("/v1/objects/"), dict(parse_qsl(parts.query))


def code_of(local: LocalObjects, key: str, query: dict[str, str]) -> str:
    with pytest.raises(BadRequest) as caught:
        local.verify(key, query)
    assert caught.value.status == 403
    return caught.value.code


def test_a_local_url_leads_to_the_file(local):
    local.put("clips/a.mp4", b"clip", "video/mp4")
    key, query = signed(local, "clips/a.mp4", filename="a.mp4", content_type="video/mp4")
    assert local.verify(key, query).read_bytes() == b"clip"
    assert (query["filename"], query["content_type"]) == ("a.mp4", "video/mp4")


def test_a_local_url_is_valid_in_every_process_that_knows_the_secret(local, tmp_path):
    local.put("a", b"x", "text/plain")
    key, query = signed(local, "a")
    assert open_local(tmp_path / "objects").verify(key, query).read_bytes() == b"x"
    stranger = LocalObjects(tmp_path / "objects", ("another secret" * 3,), PUBLIC_URL)
    assert code_of(stranger, key, query) == "bad_signature"


def test_a_local_url_that_was_changed_is_refused(local):
    for key in ("a", "b"):
        local.put(key, b"x", "text/plain")
    key, query = signed(local, "a", filename="a.mp4", content_type="video/mp4")
    assert code_of(local, "b", query) == "bad_signature"
    assert code_of(local, "../a", query) == "bad_signature"
    for name in query:
        assert code_of(local, key, query | {name: query[name] + "0"}) == "bad_signature"
        assert code_of(local, key, query | {name: ""}) == "bad_signature"
        assert code_of(local, key, query | {name: "\ud800é"}) == "bad_signature"
        assert code_of(local, key, {k: v for k, v in query.items() if k != name}) == "bad_signature"
    assert code_of(local, key, {}) == "bad_signature"
    moved = query | {"filename": query["content_type"], "content_type": query["filename"]}
    assert code_of(local, key, moved) == "bad_signature"


def test_no_altered_local_url_is_accepted(local):
    local.put("a", b"x", "text/plain")
    forms = []
    for options in ({}, {"filename": "a.mp4", "content_type": "video/mp4"}):
        key, query = signed(local, "a", **options)
        forms += hostile.altered(query)
    for query in forms:
        assert code_of(local, key, query) == "bad_signature", query
    assert len(forms) >= hostile.documented("Signed URLs")


def test_a_local_url_expires(tmp_path):
    clock = [1_000_000.0]
    local = LocalObjects(tmp_path, (SECRET,), PUBLIC_URL, now=lambda: clock[0])
    local.put("a", b"x", "text/plain")
    key, query = signed(local, "a", expires_s=60)
    clock[0] += 60
    assert local.verify(key, query).read_bytes() == b"x"
    clock[0] += 1
    assert code_of(local, key, query) == "url_expired"


def test_a_valid_url_of_a_deleted_file_is_missing(local):
    local.put("a", b"x", "text/plain")
    key, query = signed(local, "a")
    local.delete("a")
    with pytest.raises(ObjectMissing):
        local.verify(key, query)


def test_a_new_object_directory_is_closed_to_other_users(local, tmp_path):
    local.put("a/b", b"x", "text/plain")
    assert stat.S_IMODE((tmp_path / "objects").stat().st_mode) == 0o700


def test_in_an_existing_directory_the_umask_decides(tmp_path):
    old = os.umask(0o027)
    try:
        open_local(tmp_path).put("a/b", b"x", "text/plain")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o640


def test_empty_directories_do_not_pile_up(local, tmp_path):
    local.put("a/b/c/d", b"x", "text/plain")
    local.delete("a/b/c/d")
    assert [path.name for path in (tmp_path / "objects").iterdir()] == [".partial"]


def test_a_put_that_fails_leaves_nothing(local, tmp_path):
    local.put("a", b"x", "text/plain")
    with pytest.raises(StorageUnavailable):
        local.put("a/b", b"y", "text/plain")
    assert local.get("a") == b"x"
    assert list((tmp_path / "objects/.partial").iterdir()) == []


def test_a_killed_put_leaves_nothing_visible_and_is_swept(local, tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from app.objects import open_objects
objects = open_objects("file://{tmp_path}/objects", secret_key={SECRET!r}, public_url="")
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
Path.replace = die  # the last moment before the object has its name
objects.put("a/b", b"x" * 100_000, "text/plain")
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    partial = tmp_path / "objects/.partial"
    assert len(list(partial.iterdir())) == 1
    assert list(local.list()) == []
    assert list(local.list(older_than=datetime.now(UTC) - timedelta(hours=1))) == []
    assert len(list(partial.iterdir())) == 1  # it could be a put in progress
    assert list(local.list(older_than=datetime.now(UTC) + timedelta(hours=1))) == []
    assert list(partial.iterdir()) == []


def test_a_reader_never_sees_half_an_object(local):
    """Other processes overwrite one key; every read returns one complete version."""
    local.put("k", b"0" * 300_000, "text/plain")
    program = """
import sys
from app.objects import open_objects
url, secret, byte = sys.argv[1:]
objects = open_objects(url, secret_key=secret, public_url="")
for _ in range(40):
    objects.put("k", byte.encode() * 300_000, "text/plain")
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", program, f"file://{local._root}", SECRET, byte])
        for byte in "12"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        data = local.get("k")
        assert len(data) == 300_000
        assert len(set(data)) == 1
        seen.add(data[0])
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(seen) > 1


def test_putting_and_pruning_in_one_directory_at_once_loses_nothing(local):
    def work(i: int) -> None:
        for _ in range(50):
            local.put(f"deep/er/{i}", b"x", "text/plain")
            local.delete(f"deep/er/{i}")
        local.put(f"deep/er/{i}", b"kept", "text/plain")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [local.get(f"deep/er/{i}") for i in range(4)] == [b"kept"] * 4


def test_a_directory_that_cannot_be_created_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    local = open_local(tmp_path / "file/objects")
    with pytest.raises(StorageUnavailable):
        local.check()
    with pytest.raises(StorageUnavailable):
        local.put("a", b"x", "text/plain")


@pytest.mark.parametrize(
    "url",
    ["", "/tmp/x", "file://host/x", "file://", "file:///", "s3://", "gs://bucket", "http://x/y"],
)
def test_an_unsupported_store_url_is_an_error(url):
    with pytest.raises(ValueError, match="OBJECTS_URL"):
        open_objects(url, secret_key=SECRET, public_url=PUBLIC_URL)


# S3


def test_a_presigned_url_works_for_anybody_with_ranges(s3):
    s3.put("clips/a.mp4", b"0123456789", "application/octet-stream")
    url = s3.signed_url("clips/a.mp4", expires_s=60, filename="a.mp4", content_type="video/mp4")
    whole = httpx.get(url)
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-disposition"] == 'inline; filename="a.mp4"'
    part = httpx.get(url, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["content-range"] == "bytes 2-4/10"


def test_the_type_given_at_put_is_served(s3):
    s3.put("a", b"x", "image/jpeg")
    assert httpx.get(s3.signed_url("a", expires_s=60)).headers["content-type"] == "image/jpeg"


def test_a_presigned_url_that_was_changed_is_refused(s3):
    for key in ("a", "b"):
        s3.put(key, b"x", "text/plain")
    url = s3.signed_url("a", expires_s=60, filename="a.mp4")
    assert httpx.get(url).status_code == 200
    changed = [
        url.replace("/a?", "/b?"),
        url.replace("Expires=60", "Expires=6000"),
        url.replace("a.mp4", "b.mp4"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
    ]
    assert [httpx.get(bad).status_code for bad in changed] == [403] * 4
    assert httpx.put(url, content=b"y").status_code == 403
    assert s3.get("a") == b"x"


def test_a_presigned_url_expires(s3):
    s3.put("a", b"x", "text/plain")
    url = s3.signed_url("a", expires_s=1)
    assert httpx.get(url).status_code == 200
    time.sleep(2.1)
    assert httpx.get(url).status_code == 403


def test_urls_are_signed_for_the_public_endpoint(s3_endpoint):
    """`localhost` and 127.0.0.1 are two names of one server, as with a load balancer."""
    public = s3_endpoint.replace("127.0.0.1", "localhost")
    s3 = open_s3(s3_endpoint, "public", public)
    s3.put("a", b"x", "text/plain")
    url = s3.signed_url("a", expires_s=60)
    assert url.startswith(f"{public}/clips/public/a?")
    assert httpx.get(url).content == b"x"
    # The signature covers the host.
    assert httpx.get(url.replace("localhost", "127.0.0.1")).status_code == 403


def test_two_prefixes_of_one_bucket_do_not_see_each_other(s3_endpoint):
    one, two = open_s3(s3_endpoint, "one"), open_s3(s3_endpoint, "one-more")
    one.put("k", b"1", "text/plain")
    two.put("k", b"2", "text/plain")
    assert (one.get("k"), two.get("k")) == (b"1", b"2")
    assert [info.key for info in one.list()] == ["k"]


def test_a_listing_goes_on_after_the_first_page(s3):
    keys = [f"{i:04}" for i in range(2 * swift_server.PAGE + 1)]
    for key in keys:
        s3.put(key, b"", "text/plain")
    assert [info.key for info in s3.list()] == keys


def test_a_bucket_that_does_not_exist_is_unavailable_and_not_missing(s3_endpoint):
    s3 = open_objects(
        "s3://no-such-bucket", secret_key=SECRET, public_url="", s3_endpoint_url=s3_endpoint
    )
    with pytest.raises(StorageUnavailable, match="bucket"):
        s3.check()
    with pytest.raises(StorageUnavailable):
        s3.get("a")


def test_wrong_credentials_are_unavailable(s3_endpoint, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3 = open_s3(s3_endpoint)
    for call in (s3.check, lambda: s3.get("a"), lambda: s3.put("a", b"", "text/plain")):
        with pytest.raises(StorageUnavailable):
            call()


def test_a_dead_endpoint_is_unavailable_at_once(s3_endpoint):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert_unavailable(open_s3(f"http://127.0.0.1:{port}"), within_s=4)


def test_an_endpoint_that_hangs_up_is_unavailable(s3_endpoint):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert_unavailable(open_s3(f"http://127.0.0.1:{port}"), within_s=8)
        sock.shutdown(socket.SHUT_RDWR)
        thread.join()


def assert_unavailable(s3: S3Objects, within_s: float) -> None:
    calls = {
        "put": lambda: s3.put("a", b"x", "text/plain"),
        "get": lambda: s3.get("a"),
        "head": lambda: s3.head("a"),
        "list": lambda: list(s3.list()),
        "delete": lambda: s3.delete("a"),
        "check": s3.check,
    }
    for name, call in calls.items():
        began = time.monotonic()
        with pytest.raises(StorageUnavailable) as caught:
            call()
        assert time.monotonic() - began < within_s, name
        assert "127.0.0.1" not in caught.value.detail
    # Signing needs no server.
    assert s3.signed_url("a", expires_s=60).startswith("http://")


def test_an_s3_upload_url_takes_exactly_the_signed_length(s3):
    url = s3.signed_put_url("uploads/a/b", expires_s=60, size=5)
    assert httpx.put(url, content=b"123456").status_code == 403
    assert s3.head("uploads/a/b") is None
    assert httpx.put(url, content=b"12345").status_code == 200
    assert s3.get("uploads/a/b") == b"12345"
    assert httpx.get(url).status_code == 403
