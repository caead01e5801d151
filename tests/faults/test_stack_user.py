"""The user of a whole stack that root starts: nobody, or root with a line that says why."""

import json
import os
import pwd
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.stack.data import ROOT
from tests.support.processes import python_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc"),
]

PARTS = ("app", "migrations", "scripts", "stillmotion", "workers")
# Opens a stack with argv as its processes and prints what it found.
STACK = """
    import json, os, pathlib, sys, time
    import httpx
    from scripts.benchmarks.processes import family
    from scripts.stack import Stack
    data, photo, *processes = sys.argv[1:]
    said = []
    environ = {"PATH": os.environ["PATH"], "HOME": "/root", "MODEL_PROFILE": "noop"}
    environ["PYTHONPATH"] = os.environ["PYTHONPATH"]
    state = ""
    with Stack(pathlib.Path(data), processes=processes, environ=environ, say=said.append) as stack:
        if "api" in processes:
            access = {"Authorization": f"Bearer {stack.api_key()}"}
            with httpx.Client(base_url=stack.url, headers=access, timeout=30) as client:
                picture = {"image": open(photo, "rb")}
                job = client.post("/v1/jobs", files=picture, headers={"Prefer": "wait=60"}).json()
                assert "state" in job, job
                state = job["state"]
                clip = client.get(f"/v1/jobs/{job['id']}/video", follow_redirects=True)
                assert clip.status_code == 200
        reaper = stack.services.supervisor._reaper.pid
        users = {}
        for pid in family(os.getpid()) - {os.getpid(), reaper}:
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\\0", b" ")
            users[command.decode()] = pathlib.Path(f"/proc/{pid}").stat().st_uid
    print(json.dumps({"said": said, "users": users, "state": state}))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach; tmp_path is closed to all but its owner."""
    with tempfile.TemporaryDirectory(prefix="stillmotion-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def code(place) -> Path:
    """A copy of our code that everybody may read; the repository may be in a closed home."""
    ignored = shutil.ignore_patterns("__pycache__")
    for part in PARTS:
        shutil.copytree(ROOT / part, place / "code" / part, ignore=ignored)
    subprocess.run(["chmod", "-R", "go+rX", place / "code"], check=True)
    return place / "code"


@pytest.fixture
def run_stack(place, code) -> Callable[..., dict]:
    """Run STACK as root with an interpreter and libraries that nobody can use, too."""
    nobody = pwd.getpwnam("nobody").pw_uid
    python = python_for(nobody, place / "python")
    env = {"PATH": os.defpath, "PYTHONPATH": str(code)}
    shutil.copy(ROOT / "scripts/assets/cat.jpg", place / "photo.jpg")

    def run(*processes: str) -> dict:
        files = [place / "data", place / "photo.jpg"]
        done = subprocess.run(
            [python, "-P", "-c", textwrap.dedent(STACK), *files, *processes],
            env=env,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_no_process_of_a_stack_that_root_starts_runs_as_root(place, run_stack):
    found = run_stack("api", "dispatcher", "gpu:us-east", "cpu", "flower")
    assert found["said"] == []
    assert found["state"] == "succeeded"
    nobody = pwd.getpwnam("nobody").pw_uid
    assert {command: uid for command, uid in found["users"].items() if uid != nobody} == {}
    shown = " ".join(found["users"])
    for part in ("postgres", "valkey", "gunicorn", "app.dispatcher", "workers.gpu", "flower"):
        assert part in shown

    data = place / "data"
    for name in ("secrets.json", "lock", "logs"):  # what only the parent needs stays its own
        assert (data / name).stat().st_uid == 0
    for folder, _, files in os.walk(data):
        for name in files:  # and what they must not change is in folders of the parent
            path = Path(folder, name)
            assert not path.stat().st_mode & 0o022, path
    assert (data / "provenance").stat().st_uid == (data / "regions.toml").parent.stat().st_uid == 0


def test_where_nobody_cannot_read_the_code_one_line_says_so_and_all_works_as_before(
    code, run_stack
):
    first = run_stack("dispatcher")
    assert first["said"] == []
    code.chmod(0o700)
    closed = run_stack("api", "dispatcher", "gpu:us-east")
    assert closed["said"] == [f"Running as root: the user nobody cannot read {code}/app."]
    assert closed["state"] == "succeeded"
    code.chmod(0o755)
    again = run_stack("api", "dispatcher", "gpu:us-east")
    assert (again["said"], again["state"]) == ([], "succeeded")
