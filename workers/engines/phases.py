"""An engine says what it does before it can render; the worker shows that to operators."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from app.domain.worker_phase import WorkerPhase

log = structlog.get_logger(__name__)

_listeners: list[Callable[[WorkerPhase], None]] = []


def enter(phase: WorkerPhase) -> None:
    """The process is in this phase from now on."""
    log.info("setup_phase", phase=phase.value)
    for listener in _listeners:
        listener(phase)


@contextmanager
def listening(listener: Callable[[WorkerPhase], None]) -> Iterator[None]:
    """While in the block, tell `listener` each phase that begins."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
