"""The look for published holes, as CI runs it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.services import ROOT

# Nothing answers there, so neither pip nor pip-audit reaches its data.
CUT_OFF = {"HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
CUT_OFF |= {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0", "PIP_TIMEOUT": "1"}


def look(*files: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / ".ci/advisories", *files],
        env={"PATH": os.environ["PATH"]} | CUT_OFF,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_release_with_a_known_hole_fails_and_is_named(tmp_path):
    file = tmp_path / "old.txt"
    file.write_text("pillow==12.0.0\nClick==8.5.1\nJinja2==3.1.6\n")
    done = look(file)
    assert done.returncode == 1
    assert done.stdout.splitlines()[1:] == [
        "old.txt: pillow 12.0.0 has CVE-2026-25990; 12.1.1 closes it."
    ]


def test_where_the_data_are_out_of_reach_it_says_so_and_does_not_fail():
    done = look()
    assert done.returncode == 0, done.stdout + done.stderr
    first, *others = done.stdout.splitlines()
    assert first.endswith("pins against our own list")
    assert others
    for line in others:
        assert "out of reach" in line or "cannot be installed" in line
