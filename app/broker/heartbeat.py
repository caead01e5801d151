"""Whether a Celery worker's loop still runs."""

from time import monotonic
from typing import Any

from celery import Celery, bootsteps

BEAT_S = 1.0
SILENT_S = 60.0  # far longer than anything that the loop does by itself


class LoopHeartbeat:
    """Beats from the consumer's own loop, so that a stuck loop falls silent.

    While the broker is away there is no such loop. Connecting is tried again and again, with limits
    of its own, and a restart would not bring the broker back: the worker counts as alive.
    """

    def __init__(self, app: Celery):
        self._beat_at: float | None = None
        heart = self

        class Beat(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no type hints
            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, consumer: Any) -> None:
                heart._beat()
                consumer.timer.call_repeatedly(BEAT_S, heart._beat)

            def stop(self, consumer: Any) -> None:
                heart._beat_at = None

        app.steps["consumer"].add(Beat)

    def alive(self) -> bool:
        beat_at = self._beat_at
        return beat_at is None or monotonic() - beat_at < SILENT_S

    def _beat(self) -> None:
        self._beat_at = monotonic()
