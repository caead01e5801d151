"""Every example in the README and the guides works as it stands, in a new user's shell.

That shell has the wheel and nothing of the clone, and its directory holds an `app.py` of the user's
own. Examples for operators run in the clone's environment, as operators do.
"""

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

from app.config.profiles_file import PROFILES
from app.config.settings import Settings
from app.domain import webhooks
from app.public.present import present_understood
from app.store import keys
from scripts.stack.certificate import ROOT as ROOT_CERTIFICATE
from scripts.stack.certificate import signing_certificate
from stillmotion import Client
from tests.support import documents, services
from tests.support.documents import Place
from tests.support.fleet import fleet as make_fleet
from tests.support.wheel import user_environment, user_variables
from workers.media import provenance

pytestmark = pytest.mark.timeout(300)

SERVER, KEY = "http://127.0.0.1:8000", "sm_..."  # as the documents have them
[NOOP_CLIP] = (services.ROOT / "workers/engines").rglob("noop.mp4")

README = "README.md"
API = "docs/guides/api.md"
WEBHOOKS = "docs/guides/webhooks.md"
OPERATING = "docs/guides/operating.md"
REGIONS = "docs/guides/regions.md"
PROVENANCE = "docs/guides/provenance.md"
MODEL = "docs/guides/model.md"
MODELS = "docs/guides/models.md"

EXCEPTIONS = {
    Place(README, "Try it", 0): "test_demo.py runs scripts/demo; scripts/test runs this very test",
    Place(README, "Use it", 0): "tests/support/wheel.py installs the wheel with pip",
    Place(WEBHOOKS, "Test it on your machine", 0): "test_demo.py runs scripts/demo --serve",
    Place(OPERATING, "Processes", 0): "needs a package index; test_requirements.py holds the file",
    Place(OPERATING, "PgBouncer", 0): "tests/integration/test_pooler.py runs it",
    Place(OPERATING, "Restore", 0): "tests/faults/test_restore.py runs it, after a real restore",
    **dict.fromkeys(
        documents.blocks(MODELS), "tests/e2e/test_models_guide.py runs it, or says why not"
    ),
    Place(MODEL, "Train it", 0): "takes hours; test_training.py does it with a tiny model",
    Place(MODEL, "Train it", 1): "takes minutes; test_evaluate.py does it with a tiny model",
}

BLOCKS = {
    place: text for name in documents.GUIDES for place, text in documents.blocks(name).items()
}
RUN: set[Place] = set()


def run(document: str, heading: str, number: int = 0) -> str:
    """A block that a test below runs."""
    place = Place(document, heading, number)
    RUN.add(place)
    return BLOCKS[place]


SETTINGS = run(README, "Use it", 1)
assert run(API, "Using the API") == SETTINGS
PYTHON = run(README, "Python")
COMMAND = run(README, "Command line")
CURL = run(README, "curl")
CREATE_WEBHOOK = run(README, "Webhooks")
assert run(WEBHOOKS, "Webhooks") == CREATE_WEBHOOK
VERIFY = run(README, "Webhooks", 1)

CURL_STEPS, CURL_WAIT = run(API, "curl"), run(API, "curl", 1)
PYTHON_RUN, PYTHON_STEPS, ASYNCIO = (run(API, "Python", number) for number in range(3))
COMMANDS = run(API, "Command line")
UNDERSTOOD = run(API, "What you can ask for")

RECEIVER, STANDARD = run(WEBHOOKS, "A receiver"), run(WEBHOOKS, "A receiver", 1)
REGISTER, SEND_TEST = (run(WEBHOOKS, "Test it on your machine", number) for number in (1, 2))

KEYS = run(OPERATING, "Keys")
TRAFFIC = run(OPERATING, "Direct traffic")
PLAN = run(OPERATING, "Plan capacity")
REGIONS_FILE, REGIONS_CHECK = run(REGIONS, "Regions"), run(REGIONS, "Regions", 1)
SHOW_CREDENTIALS = run(PROVENANCE, "Provenance")


def test_every_example_is_run_or_has_a_reason_not_to_be():
    assert RUN.isdisjoint(EXCEPTIONS)
    assert sorted(BLOCKS) == sorted({*RUN, *EXCEPTIONS})
    assert [name for name in documents.GUIDES if documents.indented_blocks(name)] == []


def test_what_a_prompt_says():
    """The prompt stands above the block, in the text."""
    understood = present_understood("motion-small", "the helmet gently sways, pan left, she blinks")
    assert json.loads(UNDERSTOOD) == understood.model_dump(mode="json")


@pytest.fixture(scope="module")
def receiver_port() -> int:
    return services.free_port()


@pytest.fixture(scope="module")
def _site(session_settings, _shared_store, tmp_path_factory, receiver_port):
    """A service whose worker waits instead of rendering."""
    port = services.free_port()
    changes = {"public_url": f"http://127.0.0.1:{port}", "served_profiles": ("noop",)}
    changes |= {"model_profile": "noop", "model_steps": 4, "noop_step_s": 0.1}
    changes |= {"outbound_allow": f"127.0.0.1:{receiver_port}"}
    config = session_settings.model_copy(update=changes)
    directory = tmp_path_factory.mktemp("examples")
    with (
        services.gunicorn(config, directory / "api.log") as url,
        make_fleet(config, _shared_store, directory) as fleet,
    ):
        fleet.dispatcher()
        fleet.cpu_worker()
        fleet.worker().wait_ready()
        yield url


@pytest.fixture
def site(_site, settings) -> str:
    """The service's URL; its stores are empty."""
    return _site


@pytest.fixture
def home(tmp_path, photo) -> Path:
    """A user's directory: a photo, and an application of their own."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "photo.jpg").write_bytes(photo)
    (home / "app.py").write_text('raise RuntimeError("this is the app of a user")\n')
    return home


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> Path:
    """The folder with a new user's `python` and `stillmotion`."""
    return user_environment(tmp_path_factory.getbasetemp())


@pytest.fixture
def shell(site, api_key, home, commands):
    """Arguments of a subprocess that runs as in a new user's shell."""
    given = {"STILLMOTION_SERVER": site, "STILLMOTION_API_KEY": api_key}
    return {"env": user_variables(commands, home, **given), "cwd": home}


@pytest.fixture
def operator(home, database_url):
    """The same in the clone's environment, with access to the service's database."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"env": os.environ | {"PATH": path, "DATABASE_URL": database_url}, "cwd": home}


def play(block: str, shell: dict) -> str:
    """Run a shell block; returns its output."""
    return _printed(["sh", "-eu", "-c", block], shell)


def play_python(block: str, shell: dict, **options) -> str:
    """Save a Python block and run it."""
    (shell["cwd"] / "example.py").write_text(block)
    return _printed(["python", "example.py"], shell, **options)


def _printed(command: list[str], shell: dict, **options) -> str:
    command[0] = shutil.which(command[0], path=shell["env"]["PATH"])
    done = subprocess.run(command, **shell, **options, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_clip(path: Path) -> bool:
    return path.read_bytes()[4:8] == b"ftyp"


def test_the_settings_are_two_lines_to_paste(shell, site, api_key):
    given = SETTINGS.replace(SERVER, site).replace(KEY, api_key)
    assert given.count("export ") == len(given.splitlines()) == 2
    minimal = {name: shell["env"][name] for name in ("PATH", "HOME", "LANG")}
    play(given + "stillmotion jobs list\n", shell | {"env": minimal})


def test_the_readmes_examples(shell, home):
    assert play_python(PYTHON, shell) == "clip.mp4\n"
    assert is_clip(home / "clip.mp4")
    (home / "clip.mp4").unlink()
    assert play(COMMAND, shell) == "clip.mp4\n"
    assert is_clip(home / "clip.mp4")
    (home / "clip.mp4").unlink()
    services.need("curl", shutil.which("curl"))
    assert play(CURL, shell) == ""
    assert is_clip(home / "clip.mp4")
    assert play(CREATE_WEBHOOK, shell).startswith("whsec_")


def test_curl(shell, home):
    services.need("curl", shutil.which("curl"))
    printed = play(CURL_STEPS, shell)
    job, stream = printed.split("retry: ", 1)
    assert json.loads(job)["prompt"] == "gentle waves"
    assert "event: progress" in stream
    assert "event: completed" in stream
    assert is_clip(home / "clip.mp4")
    job = json.loads(play(CURL_WAIT, shell))
    assert (job["state"], job["loop"]) == ("succeeded", True)
    assert httpx.get(job["output"]["url"]).content[4:8] == b"ftyp"


def test_python_in_one_call(shell, home):
    assert play_python(PYTHON_RUN, shell) == ""
    assert is_clip(home / "clip.mp4")


def test_python_step_by_step(shell, home):
    *states, path = play_python(PYTHON_STEPS, shell).splitlines()
    assert states[-1] == "succeeded 4"
    assert path == "clip.mp4"
    assert is_clip(home / "clip.mp4")


def test_asyncio(shell, home):
    printed = play_python(ASYNCIO, shell).splitlines()
    assert {"waves.mp4: step 4 of 4", "zoom.mp4", "waves.mp4"} <= set(printed)
    assert printed[-1] == "invalid_field /motion"
    assert is_clip(home / "waves.mp4") and is_clip(home / "zoom.mp4")


def test_the_commands(shell, home):
    path, state, shown = play(COMMANDS, shell).splitlines()
    assert (path, state) == ("clip.mp4", "succeeded")
    assert json.loads(shown)["loop"] is True
    assert is_clip(home / "clip.mp4")


CALL_RECEIVE = """
import json, sys
given = json.load(sys.stdin)
print(receive(given["body"].encode(), given["headers"], given["secret"]))
"""


@pytest.fixture
def message(site, api_key, photo):
    """What a receiver gets: body, headers and the secret that verifies them."""
    with Client(site, api_key) as client:
        job = client.submit(photo)
    secret = webhooks.secret_for("k" * 32, uuid4())
    body = webhooks.encode("job.succeeded", job.created_at, job.raw).decode()
    now = datetime.now(UTC)
    headers = {
        "Webhook-Id": "m1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("m1", now, body),
    }
    return {"body": body, "headers": headers, "secret": secret}


def test_our_way_to_verify(shell, message):
    job = json.loads(message["body"])["data"]["job"]
    printed = play_python(VERIFY + CALL_RECEIVE, shell, input=json.dumps(message))
    assert printed == f"job.succeeded {job['id']} {job['state']}\n204\n"
    message["body"] += " "
    assert play_python(VERIFY + CALL_RECEIVE, shell, input=json.dumps(message)) == "401\n"


def test_the_standard_librarys_way_to_verify(operator, message):
    """standardwebhooks does not come with the wheel."""
    shown, status = play_python(
        STANDARD + CALL_RECEIVE, operator, input=json.dumps(message)
    ).splitlines()
    assert (shown.split()[0], status) == ("job.succeeded", "204")
    message["body"] += " "
    assert play_python(STANDARD + CALL_RECEIVE, operator, input=json.dumps(message)) == "401\n"


def test_webhooks_on_ones_own_machine(shell, home, receiver_port, tmp_path):
    (home / "receiver.py").write_text(RECEIVER)
    printed = tmp_path / "printed"
    register = REGISTER.replace("8080", str(receiver_port))
    with (
        printed.open("wb") as out,
        services.process(["sh", "-eu", "-c", register], **shell, stdout=out, stderr=out) as child,
    ):
        address = ("127.0.0.1", receiver_port)
        services.wait_until(lambda: socket.create_connection(address, 1), child)
        sent, listed = play(SEND_TEST, shell).splitlines()
        assert sent.split()[0] == listed.split()[0]
        services.wait_until(lambda: "webhook.test" in printed.read_text(), child)
        forged = httpx.post(f"http://127.0.0.1:{receiver_port}/", content=b"{}")
        assert forged.status_code == 401


def test_operators_make_keys(operator):
    shop, ops, *listed = play(KEYS, operator).splitlines()
    assert shop.startswith("sm_") and ops.startswith("sm_")
    assert len(listed) == 2


def test_operators_direct_traffic(shell, store):
    with store.begin() as tx:
        shell["env"]["STILLMOTION_API_KEY"] = keys.create(tx, "ops", ("jobs", "admin"))[1]
    printed = play(TRAFFIC, shell)
    for verb in ("drain", "undrain", "cap", "uncap"):
        assert f"regions.{verb} " in printed
    assert "pin " in printed and "unpin " in printed


def test_operators_check_regions_and_plan(operator, home):
    (home / "regions.toml").write_text(REGIONS_FILE)
    play(REGIONS_CHECK, operator)
    planned = play(PLAN, operator)
    assert "us-east" in planned and "eu-west" in planned


def test_the_origin_that_a_clip_states(operator, home, tmp_path):
    paths = signing_certificate(tmp_path)
    given = dict.fromkeys(("database_url", "redis_url", "objects_url"), "x")
    given |= {"secret_key": services.SECRET_KEY}
    given |= {name.lower(): path for name, path in paths.items()}
    credentials = provenance.load(Settings(**given), PROFILES["noop"], "1")
    (home / "clip.mp4").write_bytes(credentials.sign(NOOP_CLIP.read_bytes(), datetime.now(UTC)))
    shutil.copy(tmp_path / ROOT_CERTIFICATE, home / "root.pem")
    assert "noop" in play(SHOW_CREDENTIALS, operator)


def test_the_help_page_has_the_same_examples(anonymous, settings):
    answer = anonymous.get("/help", base_url="https://clips.example")  # not a host of ours
    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    page = answer.get_data(as_text=True)
    assert "<style" not in page and " style=" not in page and "<script" not in page
    shown = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page, re.DOTALL)
    examples = "".join(BLOCKS.values()).replace(SERVER, settings.public_url)
    assert len(shown) >= 6
    for block in shown:
        assert f"{html.unescape(block)}\n" in examples
    assert '<a href="/help">' in anonymous.get("/").get_data(as_text=True)
