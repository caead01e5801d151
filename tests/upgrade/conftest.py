"""The last release beside this one: its code, taken from git, runs in the same environment."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.support import services
from tests.upgrade.releases import Release

HERE = Path(__file__).parent


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=services.ROOT, capture_output=True)


@pytest.fixture(scope="session")
def last(tmp_path_factory) -> Release:
    """The code of the last release. The tag is preferred to the hash."""
    [line] = [
        line for line in (HERE / "release.txt").read_text().splitlines() if not line.startswith("#")
    ]
    tag, commit = line.split()
    for name in (f"refs/tags/{tag}", commit):
        archive = _git("archive", "--format=tar", name)
        if archive.returncode == 0:
            break
    else:
        if _git("rev-parse", "--is-shallow-repository").stdout.strip() != b"false":
            pytest.skip(f"This checkout has no history, so release {tag} is not in it.")
        services.need(f"Release {tag}, commit {commit} of this repository's history", None)
    root = tmp_path_factory.mktemp("last") / "code"
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(root, filter="data")
    return Release("last", root)


@pytest.fixture(scope="session")
def this() -> Release:
    """The code in this clone."""
    return Release("this", services.ROOT)
