"""RabbitMQ's messages, of which py-amqp decodes the properties before anybody can check them.

A content type or an id that is not UTF-8 raises in the worker's main loop. The worker ends, and
the broker hands the message to the next one.
"""

from struct import error as StructError
from typing import Any

from amqp import serialization, spec
from amqp.exceptions import FrameSyntaxError

UNREADABLE = (ValueError, LookupError, OverflowError, StructError, FrameSyntaxError)


def _decode_properties(buf: Any, offset: int) -> tuple[dict[str, Any], int]:
    """A message's properties; none if they cannot be read, so the consumer drops the message.

    The frame's length is known, so nothing depends on where its properties end.
    """
    try:
        properties, end = serialization.decode_properties_basic(buf, offset)
    except UNREADABLE:
        return {}, offset
    return properties, end


def install() -> None:
    """Make py-amqp read properties this way in this process."""
    serialization.PROPERTY_CLASSES[spec.Basic.CLASS_ID] = _decode_properties
