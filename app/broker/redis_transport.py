"""kombu's Redis transport, which drops what it cannot read instead of ending the worker.

A queue is a Redis list of JSON documents. kombu parses them in the worker's main loop and lets the
error of a bad one end the process, so each bad entry ended one worker.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import Empty
from redis.exceptions import DataError

from app.broker.dropped import drop
from app.domain.unreadable import UNREADABLE

BAD_ENTRY = (*UNREADABLE, DataError)  # DataError: its id is neither text nor a number


class QoS(kombu_redis.QoS):
    """The messages that workers hold. Bad records among them would stop all others' return."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except BAD_ENTRY as error:
            self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]
            drop("unacknowledged", type(error).__name__)


class Channel(kombu_redis.Channel):
    QoS = QoS

    def _brpop_read(self, **options: Any) -> bool:
        """Take one entry of a queue. It has left the list, so a bad one is simply forgotten."""
        try:
            return bool(super()._brpop_read(**options))  # type: ignore[no-untyped-call]
        except BAD_ENTRY as error:
            drop("queue", type(error).__name__)
            return True

    def _receive_one(self, c: Any) -> bool:
        """Receive one command for all workers."""
        try:
            return bool(super()._receive_one(c))  # type: ignore[no-untyped-call]
        except BAD_ENTRY as error:
            drop("control", type(error).__name__)
            raise Empty from None


class Transport(kombu_redis.Transport):
    Channel = Channel


def install() -> None:
    """Make this the transport of redis:// and rediss:// in this process."""
    path = f"{Transport.__module__}:{Transport.__name__}"
    TRANSPORT_ALIASES.update(redis=path, rediss=path)
