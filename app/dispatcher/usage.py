"""Adds up what ended jobs came to, by owner and day, in the dispatcher that leads."""

import random
from collections.abc import Callable
from threading import Event

import structlog

from app.domain.errors import DatabaseUnavailable
from app.store.reports import usage
from app.store.session import Store

log = structlog.get_logger(__name__)

EVERY_S = 60.0
BEHIND_S = 0.1  # between batches after a pause, or after an upgrade from a release without it


class UsageLoop:
    """Rolls usage up once a minute while `leads()`."""

    def __init__(self, store: Store, *, leads: Callable[[], bool]):
        self._store = store
        self._leads = leads

    def run(self, stopping: Event) -> None:
        wait_s = BEHIND_S
        while not stopping.wait(wait_s):
            wait_s = EVERY_S * random.uniform(0.9, 1.1)
            if not self._leads():
                wait_s = min(wait_s, 5.0)
                continue
            try:
                with self._store.begin() as tx:
                    if usage.roll_up(tx):
                        wait_s = BEHIND_S
            except DatabaseUnavailable as error:
                log.warning("usage_not_added_up", error=error.detail)
