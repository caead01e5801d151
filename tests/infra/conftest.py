"""Fixtures for what ships: a private container engine, the images, and the tools."""

import subprocess
from pathlib import Path

import pytest

from tests.support import services
from tests.support.engine import engine as run_engine
from tests.support.engine import why_not
from tests.support.tools import Tools
from tests.support.tools import tools as install_tools

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before the marked tests are left out
def pytest_collection_modifyitems(items):
    """A step of its own, since it builds images: `scripts/test -m images`."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.images)
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def tools() -> Tools:
    try:
        return install_tools()
    except subprocess.CalledProcessError as error:
        services.need("requirements/tools.txt", None)
        raise AssertionError(error.stderr) from error


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A container engine. Skips with the reason where none can start."""
    reason = why_not()
    if reason:
        services.need(reason, None)
    context = run_engine(tmp_path_factory.mktemp("engine") / "log")
    try:
        running = context.__enter__()
    except (RuntimeError, TimeoutError) as error:
        pytest.skip(f"no container engine starts here: {error}")
    yield running
    context.__exit__(None, None, None)
