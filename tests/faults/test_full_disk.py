"""The disk of Postgres, of Valkey's log, of the objects and of all logs is full, then is not."""

import os
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from scripts.stack import Stack
from scripts.stack.data import ROOT
from tests.support.services import wait_until

pytestmark = pytest.mark.timeout(400)

SIZE_MB = 400
FULL_S = 15.0
PROCESSES = ("api", "dispatcher", "gpu:us-east", "cpu")
PICTURE = (ROOT / "scripts/assets/cat.jpg").read_bytes()


@pytest.fixture
def disk(tmp_path_factory):
    """A small disk of the test's own."""
    folder = Path(tmp_path_factory.mktemp("disk"))
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(0o711)  # Postgres runs as another user
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=711", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if mounted.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"no disk can be mounted, and CI needs it: {mounted.stderr}")
        pytest.skip(f"no disk can be mounted: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True, timeout=30)


def fill(ballast: Path) -> None:
    with ballast.open("ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue


def test_every_accepted_job_is_done_after_the_disk_was_full(disk):
    environ = {"PATH": os.environ["PATH"], "MODEL_PROFILE": "noop", "NOOP_STEP_S": "0.2"}
    with Stack(disk, processes=PROCESSES, environ=environ) as stack:
        key = {"Authorization": f"Bearer {stack.api_key()}"}
        with httpx.Client(base_url=stack.url, headers=key, timeout=30, trust_env=False) as client:

            def submit() -> httpx.Response | None:
                try:
                    return client.post(
                        "/v1/jobs", files={"image": ("a.jpg", PICTURE, "image/jpeg")}
                    )
                except httpx.TransportError:
                    return None  # gunicorn itself may die of its full log

            answers = [submit() for _ in range(5)]
            assert [answer.status_code for answer in answers] == [202] * 5
            ballast = disk / "ballast"
            fill(ballast)
            full_until = time.monotonic() + FULL_S
            while time.monotonic() < full_until:
                answers.append(submit())
                fill(ballast)
                time.sleep(0.5)
            refused = [each for each in answers if each is not None and each.status_code != 202]
            assert {each.status_code for each in refused} == {503}, refused
            assert all(each.json()["retryable"] for each in refused)
            ballast.unlink()
            # Also what crashed meanwhile is back, by itself.
            wait_until(lambda: (last := submit()) and last.status_code == 202, timeout_s=90)
            for answer in answers:
                if answer is None or answer.status_code != 202:
                    continue
                job_id = answer.json()["id"]
                wait_until(lambda job=job_id: state(client, job) == "succeeded", timeout_s=120)
                clip = httpx.get(client.get(f"/v1/jobs/{job_id}").json()["output"]["url"])
                assert clip.status_code == 200 and clip.content


def state(client: httpx.Client, job_id: str) -> str | None:
    try:
        return client.get(f"/v1/jobs/{job_id}").json()["state"]
    except (httpx.TransportError, KeyError):
        return None
