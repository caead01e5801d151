"""A new user's set-up: the wheel in its own environment, outside the clone."""

import contextlib
import fcntl
import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import services

# The files that a build needs, and everything it could pick up by mistake.
SOURCES = ("stillmotion", "app", "workers", "scripts", "migrations", "tests", "docs")
FILES = ("pyproject.toml", "README.md", "LICENSE")
OLDEST_SETUPTOOLS = 77  # as in pyproject.toml


def build_wheel(directory: Path) -> Path:
    """Build the wheel in a copy of the clone, because a build leaves folders in its source."""
    source = directory / "source"
    for name in SOURCES:
        skipped = shutil.ignore_patterns("__pycache__", "*.egg-info", "node_modules")
        shutil.copytree(services.ROOT / name, source / name, ignore=skipped)
    for name in FILES:
        shutil.copy(services.ROOT / name, source)
    # An isolated build would download setuptools, which most environments already have.
    own = _has_setuptools()
    isolation = ["--no-build-isolation"] if own else []
    _pip("wheel", "--no-deps", *isolation, "-w", directory / "dist", source, fetches=not own)
    [wheel] = (directory / "dist").iterdir()
    return wheel


def user_environment(tmp: Path) -> Path:
    """The `bin` folder of a fresh environment with the wheel and its dependencies.

    Pass `tmp_path_factory.getbasetemp()`: it is created once for all processes of a test run.
    If pip cannot fetch the dependencies, it skips the test, or fails it if CI is set.
    """
    run = tmp.parent if "PYTEST_XDIST_WORKER" in os.environ else tmp
    with (run / "user-environment.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        made = run / "user-environment"
        if not made.exists():
            # Scripts name their environment's path, so it is not made elsewhere and moved.
            with _removed_if_unfinished(made):
                _create_environment(made)
    return made / "venv/bin"


@contextlib.contextmanager
def _removed_if_unfinished(directory: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:  # pytest's skips and failures are no Exceptions
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _create_environment(directory: Path) -> None:
    directory.mkdir()
    wheel = build_wheel(directory)
    home = directory / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    _pip("--python", home / "bin/python", "install", wheel, fetches=True)


def user_variables(bin_dir: Path, home: Path, **variables: str) -> dict[str, str]:
    """The environment variables of a new user's shell: no PYTHONPATH, nothing from the clone."""
    path = f"{bin_dir}{os.pathsep}{os.defpath}"
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", **variables}


def _has_setuptools() -> bool:
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        return False
    return int(version.partition(".")[0]) >= OLDEST_SETUPTOOLS


def _pip(*arguments: object, fetches: bool = False) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*command, *map(str, arguments)], env=environ, capture_output=True, text=True
    )
    if done.returncode == 0:
        return
    if fetches and not os.environ.get("CI"):
        pytest.skip(f"pip cannot fetch packages here: {done.stderr.strip().splitlines()[-1]}")
    pytest.fail(done.stderr)
