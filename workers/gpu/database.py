"""How an attempt talks to a database that may be away for a while."""

import random
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from app.domain.errors import DatabaseUnavailable
from stillmotion.backoff import full_jitter
from workers.gpu.worker import Worker

log = structlog.get_logger(__name__)

T = TypeVar("T")


def autocommit(worker: Worker, work: Callable[[Connection], T]) -> T:
    """Run single statements. Raises DatabaseUnavailable."""
    with worker.store.autocommit() as conn:
        return work(conn)


def retry(work: Callable[[], T], *, until: float, on_wait: Callable[[], None] | None = None) -> T:
    """Repeat `work` while the database is unavailable; after `until`, raise its error.

    Calls `on_wait` before each wait.
    """
    failures = 0
    while True:
        try:
            return work()
        except DatabaseUnavailable as error:
            wait_s = full_jitter(failures, random.random(), base_s=0.1, cap_s=2.0)
            if monotonic() + wait_s > until:
                raise
            log.warning("database_unavailable", error=str(error))
            if on_wait is not None:
                on_wait()
            sleep(wait_s)
            failures += 1
