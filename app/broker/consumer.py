"""Celery's consumer, which drops messages that are not ours instead of ending the worker.

Celery trusts messages: a body of `null`, or a header of another type, raises in its main loop. The
worker ends with the message unacknowledged, so the broker hands it to the next worker, for ever.
"""

from collections.abc import Callable
from typing import Any

import structlog
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.message import Message

from app.broker.dropped import drop
from app.domain.job.messages import Unreadable, read_arguments

log = structlog.get_logger(__name__)

MAX_ID_CHARS = 255


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery has no type hints
    """Every message is checked before Celery sees it."""

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Message], None]:
        handle = super().create_task_handler(*args, **options)

        def on_message(message: Message) -> None:
            try:
                message.headers = _headers(message)
                if message.headers["task"] not in self.strategies:
                    raise Unreadable("task of another worker")
            except Unreadable as error:
                self._drop(message, str(error))
                return
            handle(message)

        return on_message

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """A message that cannot be decompressed, or a command that is no JSON."""
        drop("queue", type(exc).__name__)
        message.ack_log_error(log, self.connection_errors)  # type: ignore[no-untyped-call]

    def _drop(self, message: Message, reason: str) -> None:
        drop("queue", reason)
        message.reject_log_error(log, self.connection_errors)  # type: ignore[no-untyped-call]


def _headers(message: Message) -> dict[str, Any]:
    """The headers to run a task with, once the whole message is known to be readable.

    Celery obeys many more: a delay for which the worker holds the message, a time limit, another
    task to run on failure. Our publishers use none, so the others are not passed on.

    Raises Unreadable.
    """
    given = message.headers
    if not isinstance(given, dict):
        raise Unreadable("headers are not an object")
    task, name = given.get("task"), given.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_ID_CHARS:
        raise Unreadable("no id")
    try:
        payload = message.payload
    except Exception as error:  # whatever a decoder raises
        raise Unreadable("body cannot be decoded") from error
    # Version 2 of Celery's messages: arguments, keyword arguments, and what follows the task.
    if not isinstance(payload, list) or len(payload) != 3:
        raise Unreadable("body is not of three parts")
    args, named, follow = payload
    if named != {} or not isinstance(follow, dict) or any(follow.values()):
        raise Unreadable("body has parts that no task of ours takes")
    read_arguments(task, args)
    return {
        "lang": "py",
        "task": task,
        "id": name,
        "root_id": name,
        "argsrepr": repr(tuple(args)),  # for Flower
        "kwargsrepr": "{}",
    }
