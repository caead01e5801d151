"""Fixtures for what ships: a private container engine, the images, and the tools."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from tests.support import services
from tests.support.engine import NoEngine, missing
from tests.support.engine import engine as run_engine
from tests.support.tools import Tools
from tests.support.tools import tools as install_tools

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def tools() -> Tools:
    try:
        return install_tools()
    except subprocess.CalledProcessError as error:
        services.need(f"requirements/tools.txt ({error.stderr})", None)
        raise


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A container engine. Skips with the reason where none can start."""
    if tool := missing():
        services.need(tool, None)
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(run_engine(tmp_path_factory.mktemp("engine") / "log"))
        except NoEngine as reason:
            pytest.skip(f"no container engine starts here: {reason}")
