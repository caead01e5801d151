"""kombu's Redis transport, without what our messages do not need.

A queue is a Redis list of JSON documents. kombu parses them in the worker's main loop and lets the
error of a bad one end the process, so each bad entry ended one worker. Here it is dropped.

A message is a hint: a job that no worker begins is placed again within seconds, and a webhook that
nobody sends is due again. So Redis keeps no record of the messages that workers hold.
"""

from typing import Any

import redis
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import Empty
from redis.exceptions import DataError

from app.broker.dropped import drop
from app.domain.unreadable import UNREADABLE

BAD_ENTRY = (*UNREADABLE, DataError)  # DataError: its id is neither text nor a number


class QoS(kombu_redis.QoS):
    """The messages that this worker holds, in its memory.

    kombu writes each into Redis and removes it when it is acknowledged, for a redelivery an hour
    after its worker died. That was an eighth of a worker's processor time for a short job.
    Workers of earlier releases still do; what they left behind is given back as before.
    """

    append = virtual.QoS.append
    ack = virtual.QoS.ack
    reject = virtual.QoS.reject

    def restore_unacked(self, client: Any = None) -> Any:
        """Put them all back into their queues, when the connection is closed."""
        return virtual.QoS.restore_unacked(self)  # type: ignore[no-untyped-call]

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Bad records of an earlier release's messages would stop all others' return."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except BAD_ENTRY as error:
            self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]
            drop("unacknowledged", type(error).__name__)


class Channel(kombu_redis.Channel):
    QoS = QoS
    _shared: redis.Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> redis.Redis:
        """The client for single commands is made once; kombu makes one for each command."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[no-any-return, no-untyped-call]
        if self._shared is None or self._shared.connection_pool is not self.pool:
            self._shared = super()._create_client()  # type: ignore[no-untyped-call]
        return self._shared

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        """Put a message that this worker holds back into its queue."""
        info = message.delivery_info
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            self._do_restore_message(  # type: ignore[no-untyped-call]
                message._raw, info["exchange"], info["routing_key"], pipe, leftmost
            )
            pipe.execute()

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
