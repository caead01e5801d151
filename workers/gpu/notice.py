"""A notice that this machine will be taken away: a file that appears."""

import os
import signal
from pathlib import Path
from threading import Event, Thread

import structlog

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.5


def watch(file: Path) -> None:
    """End this process as SIGTERM does once `file` exists: its job is finished, no other taken."""

    def run() -> None:
        pause = Event()
        while not file.exists():
            pause.wait(LOOK_EVERY_S)
        log.warning("drain_file_found", path=str(file))
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=run, name="notice", daemon=True).start()
