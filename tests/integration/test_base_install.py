"""The base install, without the extras for development and workers, has everything it imports."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.domain.job.messages import HOUSEKEEPING_QUEUE
from tests.support import services

PROJECT = tomllib.loads((services.ROOT / "pyproject.toml").read_text())["project"]


def distributions(*extras):
    """The names of all packages that an install with these extras brings along."""
    lines = [*PROJECT["dependencies"]]
    lines += [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    waiting, seen = [Requirement(line) for line in lines], set()
    while waiting:
        required = waiting.pop()
        name = canonicalize_name(required.name)
        for extra in {"", *required.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in metadata.requires(name) or ():
                child = Requirement(line)
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    waiting.append(child)
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A directory with these packages and no others."""
    folder = tmp_path_factory.mktemp("base")
    for name in {*distributions("server"), "stillmotion"}:
        found = metadata.distribution(name)
        for file in found.files or ():
            first = file.parts[0]
            if first in ("..", "__pycache__", "stillmotion") or (folder / first).exists():
                continue
            (folder / first).symlink_to(Path(found.locate_file(first)).resolve())
    return folder


def run(base, settings, code):
    start = f"import sys; sys.path[:0] = [{str(services.ROOT)!r}, {str(base)!r}]\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + code],
        env=services.environment(settings),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_lacks_what_only_other_extras_bring(base, settings):
    for package in ("pytest", "torch", "flower"):
        assert f"No module named '{package}'" in run(base, settings, f"import {package}").stderr


def test_the_servers_parts_can_be_imported_and_publish(base, settings, client):
    done = run(
        base,
        settings,
        "import app.wsgi, app.dispatcher.entry, workers.cpu.entry, app.cli.migrate\n"
        "from app.broker.publish import Publisher\n"
        "from app.config.settings import settings\n"
        "from app.domain.job.messages import HOUSEKEEPING_QUEUE, SWEEP\n"
        "Publisher(settings()).send(SWEEP, [], queue=HOUSEKEEPING_QUEUE)\n",
    )
    assert done.returncode == 0, done.stderr
    assert client.llen(HOUSEKEEPING_QUEUE) == 1
