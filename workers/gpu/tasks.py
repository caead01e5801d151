"""The GPU worker's Celery side: the render task, and hooks that keep its presence accurate."""

from contextlib import suppress
from types import SimpleNamespace
from uuid import UUID

import structlog
from celery import Celery, Task, bootsteps
from celery.exceptions import Reject
from celery.worker.request import Request
from structlog.contextvars import bound_contextvars, unbind_contextvars

from app.domain.errors import DatabaseUnavailable
from app.domain.job.messages import RENDER
from workers.gpu import attempt
from workers.gpu.stages import Place
from workers.gpu.worker import Worker

log = structlog.get_logger(__name__)

LOOP_BEAT_S = 0.5
EVENTS_EVERY_S = 1.0  # Celery's own events, for Flower; sending them costs milliseconds


def register(app: Celery, worker: Worker) -> None:
    """Add the render task and the hooks to a Celery app."""
    presence = worker.presence

    # Celery has no type hints, so its classes are Any to mypy.
    class RenderRequest(Request):  # type: ignore[misc]
        """Makes the worker idle only once the message is acknowledged or handed back.

        Celery's own subclass replaces `on_success`, but it calls these two.
        """

        def acknowledge(self) -> None:
            try:
                super().acknowledge()
            finally:
                presence.done(self.id)

        def reject(self, requeue: bool = False) -> None:
            try:
                super().reject(requeue=requeue)
            finally:
                presence.done(self.id)

    class RenderTask(Task):  # type: ignore[misc]
        Request = RenderRequest

    def render(task: Task, job_id: str, fence: int) -> None:
        """Hold the message until the worker may take another; the attempt may go on longer."""

        def run(place: Place) -> None:
            with bound_contextvars(
                job_id=job_id, fence=fence, worker=worker.name, region=worker.pool.region
            ):
                try:
                    attempt.run(worker, place, UUID(job_id), fence)
                except DatabaseUnavailable as error:
                    if place.has_begun:
                        log.warning("attempt_left_to_reaper", error=str(error))
                    raise
                except Exception:
                    log.exception("attempt_crashed")
                    raise
                finally:
                    unbind_contextvars("trace_id")

        presence.taken(task.request.id)
        try:
            worker.stages.take(run, wanted=presence.wanted)
        except DatabaseUnavailable as error:
            # If the attempt did not begin, another worker may try. If it began but could not
            # report its end, the fence makes the second delivery stale.
            raise Reject(str(error), requeue=True) from error

    class LoopBeat(bootsteps.StartStopStep):  # type: ignore[misc]
        """Proves that the consumer loop runs: the loop itself calls `presence.seen`."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: SimpleNamespace) -> None:
            presence.seen()
            consumer.timer.call_repeatedly(LOOP_BEAT_S, presence.seen)
            # Publishing every event by itself took a third of the worker's time around short jobs.
            events = consumer.event_dispatcher
            events.on_send_buffered = None
            consumer.timer.call_repeatedly(EVENTS_EVERY_S, events.flush)

        def stop(self, consumer: SimpleNamespace) -> None:
            presence.lost()
            with suppress(*consumer.connection_errors):
                consumer.event_dispatcher.flush()

    app.task(render, base=RenderTask, name=RENDER, bind=True)
    app.steps["consumer"].add(LoopBeat)
