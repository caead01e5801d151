"""Real processes for the tests, on free loopback ports."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from app.config.settings import Settings
from app.store.schema import METADATA
from app.store.session import Store

ROOT = Path(__file__).parents[2]
TABLES = [table.name for table in METADATA.sorted_tables]  # the tables that others refer to first
ALL_TABLES = ", ".join(TABLES)
TRUNCATE = text(f"TRUNCATE {ALL_TABLES}")
# The lock waits for all who still write. Row by row, they and this could wait for each other.
DELETE = text(
    f"DO $$ BEGIN LOCK TABLE {ALL_TABLES} IN EXCLUSIVE MODE;"
    f" {' '.join(f'DELETE FROM {name};' for name in reversed(TABLES))} END $$"
)
LARGEST = text(f"SELECT greatest({', '.join(f'pg_relation_size({name!r})' for name in TABLES)})")
LARGE_BYTES = 2**18
SECRET_KEY = "a-secret-key-that-only-the-tests-ever-use"
REGIONS = """
[[region]]
name = "us-east"
rtt_ms = { us-west = 60, eu-west = 80 }
[[region]]
name = "us-west"
rtt_ms = { us-east = 60, eu-west = 140 }
[[region]]
name = "eu-west"
rtt_ms = { us-east = 80, us-west = 140 }
"""


def need(name: str, found: object) -> None:
    """Skip the test if something is not installed; fail it if CI is set."""
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed, but CI requires it")
    pytest.skip(f"{name} is not installed")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _end_with_parent() -> None:
    # PR_SET_PDEATHSIG, so that a killed test run leaves no process behind.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


@contextlib.contextmanager
def process(args: list, *, stop: signal.Signals = signal.SIGTERM, **options) -> Iterator:
    """A process that is stopped at the end of the block."""
    child = subprocess.Popen(
        [str(arg) for arg in args], start_new_session=True, preexec_fn=_end_with_parent, **options
    )
    try:
        yield child
    finally:
        child.send_signal(stop)
        try:
            child.wait(timeout=15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_until(check, child: subprocess.Popen | None = None, timeout_s: float = 30.0) -> None:
    """Return once `check()` is true and does not raise. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while True:
        problem: Exception | None = None
        try:
            if check():
                return
        except Exception as error:
            problem = error
        if child is not None and child.poll() is not None:
            raise RuntimeError(f"{child.args[0]} ended with status {child.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready within {timeout_s} s") from problem
        time.sleep(0.02)


def environment(settings: Settings) -> dict[str, str]:
    """The environment variables that give a process exactly these settings."""
    own = {name.upper() for name in Settings.model_fields}
    values = {name: value for name, value in os.environ.items() if name not in own}
    for name, value in settings:
        if value is not None:
            joined = ",".join(value) if isinstance(value, tuple) else str(value)
            values[name.upper()] = joined
    return values


def migrate(database_url: str) -> None:
    """Migrate a database to the latest schema with the operator's command."""
    subprocess.run(
        [sys.executable, "-m", "stillmotion.cli", "migrate"],
        env=os.environ | {"DATABASE_URL": database_url},
        cwd=ROOT,
        check=True,
        capture_output=True,
    )


def empty(store: Store) -> None:
    """Remove every row. TRUNCATE makes the files of each table anew, so it is for large ones."""
    with store.begin() as tx:
        tx.execute(TRUNCATE if tx.execute(LARGEST).scalar_one() > LARGE_BYTES else DELETE)


@contextlib.contextmanager
def gunicorn(settings: Settings, log: Path | None = None) -> Iterator[str]:
    """The API as in production, listening at `settings.public_url`; yields that URL."""
    bind = settings.public_url.removeprefix("http://")
    command = [sys.executable, "-m", "gunicorn", "-c", "python:app.gunicorn_conf", "-b", bind]
    with (
        (log or Path(os.devnull)).open("ab") as out,
        process(
            [*command, "app.wsgi:app"],
            env=environment(settings),
            cwd=ROOT,
            stdout=out,
            stderr=out,
        ) as child,
    ):
        wait_until(lambda: httpx.get(f"{settings.public_url}/healthz").is_success, child, 90)
        yield settings.public_url


def log_lines(path: Path) -> list[dict]:
    """A process's parsed log; a line that is not JSON becomes {"raw": line}."""
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            lines.append({"raw": line})
    return lines
