"""The commands' virtual environment: created once, with visible progress."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts._env import PipLog, Progress
from scripts.stack.data import ROOT
from tests.support.processes import until

# A build backend that needs nothing from a package index.
BACKEND = """
import zipfile

INFO = "tiny-1.dist-info"


def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr(f"{INFO}/METADATA", METADATA)
        wheel.writestr(f"{INFO}/WHEEL", TAGS)
        wheel.writestr(f"{INFO}/RECORD", "")
    return name


METADATA = "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\nProvides-Extra: server\\n"
TAGS = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
"""
MISSING = 'METADATA += "Requires-Dist: absent @ file:///absent-1-py3-none-any.whl\\\\n"\n'


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository with our set-up and a project that installs without a network."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/_env.py").write_text((ROOT / "scripts/_env.py").read_text())
    (tmp_path / "constraints.txt").touch()
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    return tmp_path


def ensure(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", project / "scripts/_env.py", "server"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )


def test_a_failed_installation_shows_pips_message_and_a_later_run_completes_it(project):
    backend = project / "backend.py"
    backend.write_text(BACKEND + MISSING)
    home = project / ".venv"
    failed = ensure(project)
    assert (failed.returncode, failed.stdout) == (69, "")
    first, *message, last = failed.stderr.splitlines()
    assert first == f"Installing into {home}; the first time takes some minutes ..."
    assert any("absent-1-py3-none-any.whl" in line for line in message), "pip's own message"
    assert last == f"The installation into {home} failed (exit status 1)."
    assert not (home / "stillmotion-stamp.json").exists()

    backend.write_text(BACKEND)
    done = ensure(project)
    assert (done.returncode, done.stdout) == (0, f"{home}/bin/python\n"), done.stderr
    assert done.stderr.splitlines()[-1].startswith("Installed in ")
    assert json.loads((home / "stillmotion-stamp.json").read_text())["extras"] == ["server"]

    again = ensure(project)
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{home}/bin/python\n", "")


@pytest.mark.parametrize(
    ("lines", "phase"),
    [
        (
            ["Collecting torch==2.13.0 (from stillmotion==0.1.0)"],
            "resolving package 1: torch==2.13.0",
        ),
        (
            [
                "Collecting torch==2.13.0",
                "  Downloading torch-2.13.0-cp311-cp311-linux.whl (183.1 MB)",
            ],
            "downloading package 1: torch 2.13.0 (183.1 MB)",
        ),
        (
            ["Collecting av>=18", "  Downloading av-18.1.0-cp311.whl.metadata (5 kB)"],
            "resolving package 1: av>=18",
        ),
        (
            ["Processing /files/idna-3.20-py3-none-any.whl (from stillmotion==0.1.0)"],
            "resolving package 1: idna 3.20",
        ),
        (
            ["Requirement already satisfied: click>=8.1 in /a/site-packages (from stillmotion)"],
            "resolving package 1: click>=8.1",
        ),
        (
            ["  Preparing editable metadata (pyproject.toml): started"],
            "preparing: editable metadata",
        ),
        (["Installing collected packages: wcwidth, vine, redis"], "installing 3 packages"),
        (["     ━━━━━━━━━━━━ 7.1/7.1 MB 81.9 MB/s eta 0:00:00"], "so far"),
    ],
)
def test_pips_output_becomes_a_phase(lines, phase):
    progress = SimpleNamespace(phase="so far")
    PipLog(progress).read_output(io.StringIO("\n".join(lines)))
    assert progress.phase == phase


def test_an_index_that_does_not_answer_is_mentioned_and_pips_warning_is_kept():
    progress = SimpleNamespace(phase="so far")
    log = PipLog(progress)
    warning = "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'\n"
    log.read_errors(io.StringIO(warning))
    assert progress.phase == "the package index does not answer; trying again"
    assert log.errors == [warning]


def test_on_a_terminal_one_line_is_rewritten_and_removed_at_the_end(monkeypatch):
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal, os.fdopen(reader, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "30")
        seen = b""
        with Progress() as progress:
            progress.phase = "downloading a package with a long name"

            def redrawn() -> bool:
                nonlocal seen
                seen += screen.read(1000)
                return seen.count(b"\r") >= 2

            assert until(redrawn)
        seen += screen.read(1000)
    assert b"\n" not in seen
    assert seen.startswith(b"\r[   0 s] downloading a packag\x1b[K\r")  # 29 columns
    assert seen.endswith(b"\r\x1b[K")
