"""`scripts/demo` and its stack, as far as they need no model."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from scripts.stack import Stack
from scripts.stack.data import ROOT, DataDir
from scripts.stack.demo import describe
from stillmotion.cli import ExitStatus
from tests.support.processes import running, until


def demo(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", "-m", "scripts.stack.demo", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"photo.jpg cannot be read: No such file or directory\."),
        (b"", r"photo.jpg: The picture is empty\."),
        (b"plain text", r"photo.jpg: The file is not a picture .+"),
    ],
)
def test_the_demo_refuses_a_bad_picture_before_starting_anything(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "photo.jpg").write_bytes(content)
    done = demo(tmp_path / "photo.jpg", "--data", tmp_path / "data")
    assert done.returncode == 2
    assert re.fullmatch(f"{tmp_path}/{sentence}\n", done.stderr)
    assert done.stdout == ""
    assert not (tmp_path / "data").exists()


def test_the_demo_says_so_when_its_data_directory_is_in_use():
    data = DataDir(None)
    try:
        done = demo("--data", data.path)
    finally:
        data.close()
    assert done.returncode == 75
    assert re.fullmatch(rf"Another stack \(pid {os.getpid()}\) is using .+\n", done.stderr)


def test_the_whole_stack_signs_its_clips_and_a_killed_worker_comes_back(photo, tmp_path):
    processes = ("api", "dispatcher", "gpu:eu-west", "cpu", "flower")
    environ = {"PATH": os.environ["PATH"], "MODEL_PROFILE": "noop"}
    with Stack(None, processes=processes, environ=environ) as stack:
        assert httpx.get(f"{stack.url}/readyz").status_code == 200
        answer = httpx.get(
            f"{stack.url}/v1/jobs", headers={"Authorization": f"Bearer {stack.api_key()}"}
        )
        assert answer.status_code == 200
        [flower] = stack.flower_urls
        assert httpx.get(flower).status_code == 401
        operations = f"{flower}/api/worker/shutdown/any"
        assert httpx.get(flower, auth=stack.flower_login).status_code == 200
        assert httpx.post(operations, auth=stack.flower_login).status_code == 403  # read-only

        pid = stack.pid("gpu:eu-west")
        stack.kill("gpu:eu-west")
        assert until(lambda: stack.running("gpu:eu-west") and stack.pid("gpu:eu-west") != pid)
        stack.wait_ready("gpu:eu-west")

        # Webhooks can be tried at one port of this machine, and at no other.
        access = {"STILLMOTION_SERVER": stack.url, "STILLMOTION_API_KEY": stack.api_key()}
        allowed = stack.outbound_allow
        assert re.fullmatch(r"127\.0\.0\.1:[0-9]+", allowed)
        code, _ = stack.command("webhooks", "create", f"http://{allowed}/hook", env=access)
        assert code == 0
        code, _ = stack.command("webhooks", "create", f"{stack.url}/hook", env=access)
        assert code == ExitStatus.REJECTED
        assert "OUTBOUND_ALLOW" in stack.log("stillmotion").read_text().splitlines()[-1]
        assert f"http://{allowed}/" in describe(stack)

        picture, clip = tmp_path / "photo.jpg", tmp_path / "clip.mp4"
        picture.write_bytes(photo)
        assert stack.command("animate", picture, "-o", clip, env=access) == (0, f"{clip}\n")
        root = stack.data.path / "provenance" / "root.pem"
        code, printed = stack.command("provenance", clip, "--trust", root)
        assert (code, printed.split(":")[0].split()) == (0, ["state", "Trusted"])
        pids = [stack.pid(name) for name in processes]
    assert not any(map(running, pids))


def test_with_a_valkey_per_region_each_has_a_flower_for_its_own_broker():
    environ = {"PATH": os.environ["PATH"], "MODEL_PROFILE": "noop"}
    with Stack(
        None, processes=("flower", "flower:eu-west"), valkeys=True, environ=environ
    ) as stack:
        second = stack.services.redis_urls[stack.valkey_of("eu-west")]
        brokers = [urlsplit(url).netloc.split("@")[1] for url in (stack.env["REDIS_URL"], second)]
        pages = [httpx.get(f"{url}/broker", auth=stack.flower_login) for url in stack.flower_urls]
        assert [[broker in page.text for broker in brokers] for page in pages] == [
            [True, False],
            [False, True],
        ]


def test_the_commands_ask_for_a_suitable_python(tmp_path):
    (tmp_path / "scripts").mkdir()
    for name in ("demo", "_env.sh", "_env.py"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    (tmp_path / "bin").mkdir()
    for name in ("dirname", "sh"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        [tmp_path / "scripts/demo"], env={"PATH": f"{tmp_path}/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 69
    assert done.stderr.startswith("Python 3.11, 3.12 or 3.13 with its venv module is needed")
