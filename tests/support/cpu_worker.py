"""A real CPU worker process for the tests."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from app.config.settings import Settings
from tests.support import services


@contextlib.contextmanager
def cpu_worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen]:
    """A running CPU worker; killed at the end of the block."""
    with (
        log.open("wb") as out,
        services.process(
            [sys.executable, "-m", "workers.cpu"],
            env=services.environment(settings),
            cwd=services.ROOT,
            stdout=out,
            stderr=out,
            stop=signal.SIGKILL,
        ) as child,
    ):
        services.wait_until(lambda: " ready." in log.read_text(), child, timeout_s=90)
        yield child
