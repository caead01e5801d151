"""Shows how far this worker's set-up is, for `GET /v1/workers`: its phase, its last log lines."""

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import redis

from app.broker import setups
from app.broker.setups import LINE_CHARS, LINES, Setup
from app.config.settings import ConfigError
from app.domain.worker_phase import WorkerPhase
from stillmotion.errors import StillmotionError
from workers.engines import phases

SHOW_EVERY_S = 5.0  # a third of what an entry lasts
# What every line has, and what may be long.
LEFT_OUT = {"event", "level", "timestamp", "logger", "exception"}


class SetupReport:
    """One worker's entry. Its thread writes it, so that a silent Redis delays no loading."""

    def __init__(self, client: redis.Redis, region: str, worker: str, profile: str):
        self._client = client
        self._region = region
        self._worker = worker
        self._profile = profile
        self._phase = WorkerPhase.LOADING
        self._since = time.time()
        self._lines = _Lines()
        self._changed = Event()

    @contextmanager
    def during(self) -> Iterator[None]:
        """While in the block, which sets the worker up, keep log lines and follow its phases.

        Afterwards it is ready, or has failed, and that is shown until the process ends.
        """
        root = logging.getLogger()
        root.addHandler(self._lines)
        Thread(target=self._run, name="setup", daemon=True).start()
        try:
            with phases.listening(self._enter):
                yield
                phases.enter(WorkerPhase.READY)
        except (ConfigError, StillmotionError) as error:
            self._lines.kept.append(str(error))
            self._phase, self._since = WorkerPhase.FAILED, time.time()
            self._show()  # by this thread: the process ends now
            raise
        finally:
            root.removeHandler(self._lines)

    def _enter(self, phase: WorkerPhase) -> None:
        self._phase, self._since = phase, time.time()
        self._changed.set()

    def _run(self) -> None:
        while self._phase is not WorkerPhase.FAILED:
            self._changed.clear()
            self._show()
            self._changed.wait(SHOW_EVERY_S)

    def _show(self) -> None:
        lines = tuple(self._lines.kept)
        setup = Setup(self._worker, self._profile, self._phase, self._since, lines)
        # Without Redis it is shown nowhere. A worker that gets ready says so in its log itself, and
        # one that cannot start prints a sentence, alone.
        with suppress(redis.RedisError):
            setups.write(self._client, self._region, setup)


class _Lines(logging.Handler):
    """The newest lines, short."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: deque[str] = deque(maxlen=LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(_line(record)[:LINE_CHARS])


def _line(record: logging.LogRecord) -> str:
    """`warning model_graph_refused error=...`: our own records are dicts until they are printed."""
    level = record.levelname.lower()
    if not isinstance(record.msg, dict):
        return f"{level} {record.getMessage()}".partition("\n")[0]
    event = record.msg
    fields = " ".join(f"{name}={event[name]}" for name in event if name not in LEFT_OUT)
    return f"{level} {event.get('event', '')} {fields}".strip().replace("\n", " ")
