"""The Python client's waits, downloads and runs, and what they leave on disk."""

import time

import pytest

from stillmotion import JobFailed, Rejected, WaitTimeout
from tests.support.scripted_server import UNAVAILABLE


def test_a_wait_survives_an_outage_and_reports_every_response(script, client):
    script.answers = [
        script.job(),
        UNAVAILABLE,
        "cut",
        (500, {}, b""),
        script.job("processing"),
        script.job("failed", error={"code": "x", "message": "It broke."}),
    ]
    seen = []
    job = client.wait("j1", lambda job: seen.append(job.state))
    assert seen == ["queued", "processing", "failed"]
    assert job.error.message == "It broke."


def test_a_wait_times_out_and_leaves_the_job(script, client):
    script.answers = [script.job()]
    began = time.monotonic()
    with pytest.raises(WaitTimeout):
        client.wait("j1", timeout_s=0.5)
    assert 0.5 <= time.monotonic() - began < 3
    assert {path for _, path, _, _ in script.seen} == {"/v1/jobs/j1"}


def test_polling_slows_down(script, client):
    script.answers = [script.job()]
    with pytest.raises(WaitTimeout):
        client.wait("j1", timeout_s=2.0)
    assert 6 <= len(script.seen) <= 11  # 20 at 0.1 s


def test_a_download_sends_no_key_and_appears_only_when_complete(script, client, tmp_path):
    short = (200, {"Content-Length": "10"}, b"half")
    script.answers = [
        script.clip(4),
        short,
        script.clip(4),
        UNAVAILABLE,
        script.clip(4),
        (200, {}, b"clip"),
    ]
    target = tmp_path / "a.mp4"
    target.write_bytes(b"the old clip")
    script.server.RequestHandlerClass.timeout = 0.2
    assert client.download("j1", target) == target
    assert target.read_bytes() == b"clip"
    assert list(tmp_path.iterdir()) == [target]
    for _, path, headers, _ in script.seen:
        assert (headers["Authorization"] is None) == path.startswith("/clip")


def test_a_failed_download_keeps_the_old_file(script, client, tmp_path):
    script.answers = [script.clip(4), (403, {}, b'{"code": "url_expired", "detail": "Expired."}')]
    target = tmp_path / "a.mp4"
    target.write_bytes(b"the old clip")
    with pytest.raises(Rejected, match="Expired"):
        client.download("j1", target)
    assert target.read_bytes() == b"the old clip"
    assert list(tmp_path.iterdir()) == [target]


def test_run_submits_waits_and_returns_the_path(script, client, tmp_path):
    clip = script.clip(4)
    script.answers = [script.job(), script.job("processing"), clip, clip, (200, {}, b"clip")]
    target = tmp_path / "a.mp4"
    states = []
    made = client.run(b"a", "wind", to=target, on_update=lambda job: states.append(job.state))
    assert made == target
    assert target.read_bytes() == b"clip"
    assert states == ["processing", "succeeded"]
    assert b"wind" in script.seen[0][3]


@pytest.mark.parametrize(
    ("state", "error", "code", "detail"),
    [
        ("failed", {"code": "render_impossible", "message": "Too dark."}, None, "Too dark."),
        ("canceled", None, "job_canceled", "Job j1 ended as canceled."),
    ],
)
def test_run_raises_the_jobs_error(script, client, tmp_path, state, error, code, detail):
    script.answers = [script.job(), script.job(state, terminal=True, error=error)]
    with pytest.raises(JobFailed, match=f"Job j1 ended as {state}") as caught:
        client.run(b"a", to=tmp_path / "a.mp4")
    assert caught.value.code == (code or error["code"])
    assert caught.value.detail == detail
    assert caught.value.job.state == state
    assert list(tmp_path.iterdir()) == []


def test_run_submits_nothing_if_the_output_cannot_be_written(script, client, tmp_path):
    with pytest.raises(FileNotFoundError):
        client.run(b"a", to=tmp_path / "missing/a.mp4")
    assert script.seen == []


def test_a_job_may_replace_its_id(script, client, tmp_path):
    clip = script.clip(4)
    script.answers = [clip, clip, clip, (200, {}, b"clip")]
    job = client.wait(client.get("j1"))
    assert client.download(job, tmp_path / "a.mp4").read_bytes() == b"clip"
    paths = [path for _, path, _, _ in script.seen]
    assert paths == [*["/v1/jobs/j1"] * 3, "/clip?signature=s"]
