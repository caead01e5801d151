"""Messages through a broker carry ids only. The row in Postgres holds everything else."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

RENDER = "stillmotion.render"
DELIVER = "stillmotion.deliver"
SWEEP = "stillmotion.sweep"
WEBHOOKS_QUEUE = "webhooks"
HOUSEKEEPING_QUEUE = "housekeeping"

MAX_NUMBER = 2**31 - 1  # Postgres' integer, the type of fences and tries


def task_id(job_id: UUID, fence: int) -> str:
    """The Celery task id of one attempt; readable in Flower."""
    return f"{job_id}:{fence}"


class Unreadable(ValueError):
    """A message is not one of ours. The text says what is wrong and quotes nothing."""


def read_arguments(task: object, args: object) -> list[Any]:
    """The arguments of a task as its function takes them. Raises Unreadable."""
    read = _READERS.get(task) if isinstance(task, str) else None
    if read is None:
        raise Unreadable("unknown task")
    if not isinstance(args, list):
        raise Unreadable("arguments are not a list")
    return read(args)


def _id_and_number(args: list[Any]) -> list[Any]:
    """A job and its fence, or a delivery and its tries."""
    if len(args) != 2:
        raise Unreadable("wrong number of arguments")
    name, number = args
    # bool is an int to Python.
    if type(number) is not int or not 0 <= number <= MAX_NUMBER:
        raise Unreadable("second argument is not a count")
    try:
        if not isinstance(name, str):
            raise ValueError
        return [UUID(name), number]
    except ValueError:
        raise Unreadable("first argument is not an id") from None


def _nothing(args: list[Any]) -> list[Any]:
    if args:
        raise Unreadable("wrong number of arguments")
    return []


_READERS: Mapping[str, Callable[[list[Any]], list[Any]]] = {
    RENDER: _id_and_number,
    DELIVER: _id_and_number,
    SWEEP: _nothing,
}
