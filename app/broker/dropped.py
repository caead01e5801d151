"""Data that cannot be read: it is dropped, counted, and never ends the process that received it.

Whatever a broker or a Redis hands over was written by another process: of another release, by an
operator's tool, or by mistake. Each reader checks what it gets and calls `drop` for the rest.
"""

from typing import Any

import structlog

from app.metrics import messages_dropped

log = structlog.get_logger(__name__)

MAX_DIGITS = 18  # of a counter: Redis itself counts to 2**63


def drop(where: str, reason: str, **fields: Any) -> None:
    """Count and log one unreadable piece of data. `where`: the label of the metric.

    Do not pass the data itself: a message for somebody else may hold secrets.
    """
    messages_dropped.labels(where).inc()
    log.warning("message_dropped", where=where, reason=reason, **fields)


def as_count(value: str | bytes | None, where: str) -> int | None:
    """A counter's value in Redis; None if there is none, or it is no count."""
    if value is None:
        return None
    if (
        isinstance(value, str)
        and value.isascii()
        and value.isdecimal()
        and len(value) <= MAX_DIGITS
    ):
        return int(value)
    drop(where, "not a count")
    return None
