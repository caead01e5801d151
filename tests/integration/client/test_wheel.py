"""The wheel as a new user gets it: in a fresh environment, next to their own `app.py`."""

import importlib.util
import os
import resource
import signal
import subprocess
import sys
import zipfile

import pytest

from stillmotion.cli import ExitStatus
from tests.support import services
from tests.support.fleet import fleet as make_fleet
from tests.support.wheel import user_environment, user_variables

pytestmark = pytest.mark.timeout(300)

MAX_WHEEL_BYTES = 100_000
PYTHON = """
import app  # the user's own
from stillmotion import Client

with Client() as client:
    print(client.run("photo.jpg", "gentle waves", to="clip.mp4"))
"""
ASYNCIO = """
import asyncio
from stillmotion import AsyncClient

async def main():
    async with AsyncClient() as client:
        print(await client.run("photo.jpg", to="async.mp4"))

asyncio.run(main())
"""
TYPED = """
from stillmotion import Client

def first(client: Client) -> str:
    path: str = client.run("photo.jpg", to="clip.mp4")
    return path
"""


@pytest.fixture(scope="module")
def bin_dir(tmp_path_factory):
    return user_environment(tmp_path_factory.getbasetemp())


@pytest.fixture
def home(tmp_path, photo):
    """A user's project, whose `app.py` prints a line when imported."""
    (tmp_path / "app.py").write_text('print("my own app")\n')
    (tmp_path / "photo.jpg").write_bytes(photo)
    return tmp_path


@pytest.fixture
def run(bin_dir, home):
    """Run a command in the user's project, with a new user's variables."""

    def run(*command, **variables):
        return subprocess.run(
            command,
            env=user_variables(bin_dir, home, **variables),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture(scope="module")
def _site(session_settings, _shared_store, tmp_path_factory):
    changes = {"public_url": f"http://127.0.0.1:{services.free_port()}"}
    changes |= {"served_profiles": ("noop",), "model_profile": "noop"}
    config = session_settings.model_copy(update=changes)
    directory = tmp_path_factory.mktemp("wheel")
    with (
        services.gunicorn(config, directory / "api.log") as url,
        make_fleet(config, _shared_store, directory) as fleet,
    ):
        fleet.dispatcher()
        fleet.worker().wait_ready()
        yield url


@pytest.fixture
def user(_site, settings, api_key):
    """The two variables that a user sets."""
    return {"STILLMOTION_SERVER": _site, "STILLMOTION_API_KEY": api_key}


def test_the_wheel_holds_the_client_alone(bin_dir):
    [wheel] = (bin_dir.parents[1] / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = (name for name in names if name.endswith("/METADATA"))
        needed = {
            line.partition(": ")[2].partition(">=")[0]
            for line in archive.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist: ") and "extra ==" not in line
        }
    version = wheel.name.split("-")[1]
    top = {name.partition("/")[0] for name in names}
    assert top == {"stillmotion", f"stillmotion-{version}.dist-info"}
    assert "stillmotion/py.typed" in names
    assert needed == {"click", "httpx", "pydantic", "rich"}
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_python_next_to_a_users_own_app(run, user, home):
    done = run("python", "-c", PYTHON, **user)
    assert done.stderr == ""
    assert done.stdout == "my own app\nclip.mp4\n"
    assert (home / "clip.mp4").read_bytes()[4:8] == b"ftyp"
    assert run("python", "-c", ASYNCIO, **user).stdout == "async.mp4\n"


def test_the_command_next_to_a_users_own_app(run, user, home):
    done = run("stillmotion", "animate", "photo.jpg", "wind", "-o", "clip.mp4", **user)
    assert (done.returncode, done.stdout) == (ExitStatus.OK, "clip.mp4\n"), done.stderr
    assert (home / "clip.mp4").read_bytes()[4:8] == b"ftyp"
    listed = run("python", "-m", "stillmotion.cli", "jobs", "list", **user)
    assert "succeeded" in listed.stdout
    assert "my own app" not in listed.stdout


@pytest.mark.parametrize("entry", [["stillmotion"], ["python", "-m", "stillmotion.cli"]])
@pytest.mark.parametrize(
    "command", ["keys list", "plan --help", "regions check regions.toml", "provenance clip.mp4"]
)
def test_a_server_command_says_what_to_do(run, home, entry, command):
    done = run(*entry, *command.split(), PYTHONPATH=str(home))
    assert (done.returncode, done.stdout) == (ExitStatus.NOT_INSTALLED, "")
    called = " ".join(["stillmotion", *command.split()[: 2 if "regions" in command else 1]])
    assert done.stderr.startswith(f"stillmotion: `{called}` needs the server")
    assert done.stderr.count("\n") == 1


def test_importing_the_server_says_what_to_do(run):
    done = run("python", "-c", "from stillmotion import server")
    assert "the server runs from a clone of https://" in done.stderr.splitlines()[-1]


def test_a_server_command_in_a_clone_ignores_a_users_app(home):
    for entry in (["-m", "stillmotion.cli"], ["-P", "-m", "stillmotion.cli"]):
        done = subprocess.run(
            [sys.executable, *entry, "keys", "list", "--database-url", "nonsense"],
            env=os.environ | {"PYTHONPATH": f"{home}{os.pathsep}{services.ROOT}"},
            cwd=home,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (ExitStatus.CONFIG, ""), done.stderr
        assert done.stderr == "stillmotion: DATABASE_URL is not a database URL.\n"


def test_type_checkers_see_the_client(bin_dir, home):
    services.need("mypy", importlib.util.find_spec("mypy"))
    (home / "typed.py").write_text(TYPED)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull),
            *("--python-executable", bin_dir / "python", "typed.py"),
        ],
        env=os.environ | {"PYTHONPATH": ""},
        cwd=home,
        capture_output=True,
        text=True,
    )
    [problem, _] = done.stdout.splitlines()
    assert problem.startswith("typed.py:5: error: Incompatible types")
    assert 'has type "Path"' in problem


def test_the_version_is_printed_quickly(run):
    def seconds():
        """Processor time, which a busy machine hardly changes."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run("stillmotion", "--version")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.stdout.startswith("stillmotion, version ")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(10)) < 0.3
    imported = run("stillmotion", "--version", PYTHONPROFILEIMPORTTIME="1").stderr
    for slow in ("httpx", "pydantic", "rich"):
        assert f"| {slow}\n" not in imported


@pytest.mark.parametrize(
    "moment", ["click.core", "stillmotion.cli.jobs", "pydantic", "httpx._models"]
)
def test_ctrl_c_during_start_up_prints_no_traceback(bin_dir, home, moment):
    with subprocess.Popen(
        [bin_dir / "stillmotion", "animate", "photo.jpg", "--key", "k"],
        # Prints a line after every import.
        env=user_variables(bin_dir, home, PYTHONPROFILEIMPORTTIME="1"),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        while not (line := child.stderr.readline()).rstrip().endswith(f" {moment}"):
            assert line, f"{moment} was never imported"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (ExitStatus.INTERRUPTED, "")
    assert all(line.startswith("import time:") for line in err.splitlines()), err
