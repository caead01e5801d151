"""The README's examples for users work as they stand, and the help page has no others."""

import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from app.api.application import create_app
from app.domain import webhooks
from stillmotion import Client
from tests.support import services
from tests.support.fleet import fleet as make_fleet
from tests.support.hooks import create, wait_state

pytestmark = pytest.mark.timeout(300)

README = (services.ROOT / "README.md").read_text()
FOR_USERS = README[README.index("## Use it\n") : README.index("## Provenance\n")]
HEADING_OR_BLOCK = re.compile(r"^#{2,3} ([^\n]+)$|^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVER, KEY = "http://127.0.0.1:8000", "sm_..."  # as the README has them


def _blocks():
    """Every fenced block for users, by its heading and number."""
    blocks, heading, count = {}, "", 0
    for match in HEADING_OR_BLOCK.finditer(FOR_USERS):
        if match[1] is not None:
            heading, count = match[1], 0
        else:
            blocks[heading, count] = match[2]
            count += 1
    return blocks


BLOCKS, RUN = _blocks(), set()


def run(heading, number):
    """A block that a test below runs."""
    RUN.add((heading, number))
    return BLOCKS[heading, number]


SETTINGS = run("Use it", 0)
CURL_STEPS, CURL_WAIT = run("With curl", 0), run("With curl", 1)
PYTHON, ASYNCIO = run("With Python", 0), run("With Python", 1)
COMMANDS = run("On the command line", 0)
CREATE_WEBHOOK, RECEIVER, VERIFY = (run("Webhooks", number) for number in range(3))


def test_every_example_is_run():
    assert BLOCKS.keys() == RUN
    rest = FOR_USERS
    for block in BLOCKS.values():
        rest = rest.replace(block, "")
    assert not re.search(r"^(    |\t)\S", rest, re.MULTILINE), "an indented block is not run"


@pytest.fixture(scope="module")
def _site(session_settings, _shared_store, tmp_path_factory):
    """A service whose worker waits instead of rendering."""
    port = services.free_port()
    changes = {"public_url": f"http://127.0.0.1:{port}", "served_profiles": ("noop",)}
    changes |= {"model_profile": "noop", "model_steps": 4, "noop_step_s": 0.1}
    config = session_settings.model_copy(update=changes)
    directory = tmp_path_factory.mktemp("readme")
    with (
        services.gunicorn(config, directory / "api.log") as url,
        make_fleet(config, _shared_store, directory) as fleet,
    ):
        fleet.dispatcher()
        fleet.worker().wait_ready()
        yield url


@pytest.fixture
def site(_site, settings) -> str:
    """Its URL, with nothing in its stores."""
    return _site


@pytest.fixture
def play(site, api_key, photo, tmp_path):
    """Run a block as a user would: in a directory with a photo. Returns what it printed."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "photo.jpg").write_bytes(photo)
    commands = tmp_path / "bin"
    commands.mkdir()
    # What an installation puts there.
    stillmotion = commands / "stillmotion"
    stillmotion.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m stillmotion.cli "$@"\n')
    stillmotion.chmod(0o755)
    env = {"PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(services.ROOT)}
    user = {"STILLMOTION_SERVER": site, "STILLMOTION_API_KEY": api_key}

    def play(block, *, shell=False):
        assert SERVER in SETTINGS and KEY in SETTINGS
        given = SETTINGS.replace(SERVER, site).replace(KEY, api_key)
        command = ["sh", "-eu"] if shell else [sys.executable, "-P", "-"]
        done = subprocess.run(
            command,
            input=given + block if shell else block,
            env=os.environ | env | ({} if shell else user),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    play.home = home
    return play


def is_clip(path: Path) -> bool:
    return path.read_bytes()[4:8] == b"ftyp"


def test_curl(play):
    services.need("curl", shutil.which("curl"))
    printed = play(CURL_STEPS + "rm job.json\n", shell=True)
    job, stream = printed.split("retry: ", 1)
    assert json.loads(job)["prompt"] == "gentle waves"
    assert "event: progress" in stream
    assert "event: completed" in stream
    assert is_clip(play.home / "clip.mp4")
    job = json.loads(play(CURL_WAIT, shell=True))
    assert (job["state"], job["loop"]) == ("succeeded", True)
    assert httpx.get(job["output"]["url"]).content[4:8] == b"ftyp"


def test_python(play):
    *states, path = play(PYTHON).splitlines()
    assert states[-1] == "succeeded 4"
    assert path == "clip.mp4"
    assert is_clip(play.home / "clip.mp4")


def test_asyncio(play):
    printed = play(ASYNCIO).splitlines()
    assert {"waves.mp4: step 4 of 4", "zoom.mp4", "waves.mp4"} <= set(printed)
    assert printed[-1] == "invalid_field /motion"
    assert is_clip(play.home / "waves.mp4") and is_clip(play.home / "zoom.mp4")


def test_the_commands(play):
    path, state, shown = play(COMMANDS, shell=True).splitlines()
    assert (path, state) == ("clip.mp4", "succeeded")
    assert json.loads(shown)["loop"] is True
    assert is_clip(play.home / "clip.mp4")
    assert play(CREATE_WEBHOOK, shell=True).startswith("whsec_")


def test_the_clients_way_to_verify(site, api_key, photo, capsys):
    with Client(site, api_key) as client:
        job = client.submit(photo)
    secret = webhooks.secret_for("k" * 32, uuid4())
    body = webhooks.encode("job.succeeded", job.created_at, job.raw)
    now = datetime.now(UTC)
    headers = {
        "Webhook-Id": "m1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("m1", now, body.decode()),
    }
    names = {}
    exec(VERIFY, names)
    assert names["receive"](body, headers, secret) == 204
    assert capsys.readouterr().out == f"job.succeeded {job.id} {job.state}\n"
    assert names["receive"](body + b" ", headers, secret) == 401


@pytest.mark.parametrize("knows_the_secret", [True, False])
def test_the_receiver(change, api_key, start_worker, start_loop, tmp_path, knows_the_secret):
    port = services.free_port()
    app = create_app(change(outbound_allow=f"127.0.0.1:{port}"))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api_key}"
    hook = create(client, f"http://127.0.0.1:{port}/")
    secret = hook["secret"] if knows_the_secret else "whsec_" + "A" * 43 + "="
    script = tmp_path / "receiver.py"
    script.write_text(RECEIVER)
    printed = tmp_path / "printed"
    with (
        printed.open("wb") as out,
        services.process(
            [sys.executable, script, port], env=os.environ | {"WEBHOOK_SECRET": secret}, stdout=out
        ) as child,
    ):
        services.wait_until(lambda: socket.create_connection(("127.0.0.1", port), 1), child)
        start_worker(allow=f"127.0.0.1:{port}")
        start_loop()
        client.post(f"/v1/webhooks/{hook['id']}/test")
        [delivery] = wait_state(client, "delivered" if knows_the_secret else "failed")
    assert delivery["last_status"] == (204 if knows_the_secret else 401)
    assert ("webhook.test" in printed.read_text()) is knows_the_secret
    app.extensions["services"].close()


def test_the_help_page_has_the_same_examples(anonymous):
    answer = anonymous.get("/help", base_url="https://clips.example")
    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    page = answer.get_data(as_text=True)
    assert "<style" not in page and " style=" not in page and "<script" not in page
    shown = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page, re.DOTALL)
    blocks = "".join(BLOCKS.values()).replace(SERVER, "https://clips.example")
    assert len(shown) >= 6
    for block in shown:
        assert f"{html.unescape(block)}\n" in blocks
    assert '<a href="/help">' in anonymous.get("/").get_data(as_text=True)
