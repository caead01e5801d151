"""A place for stacks."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach; tmp_path is closed to all but its owner."""
    with tempfile.TemporaryDirectory(prefix="stillmotion-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
