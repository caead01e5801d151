"""Publishing ids, with producers held open and bounded waits."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from threading import Lock
from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from kombu import Producer, Queue

from app.broker.celery_app import make_celery, queue_name
from app.config.settings import Settings
from app.domain.errors import Transient
from app.domain.job.messages import RENDER, task_id
from app.domain.routing.topology import Pool

TIMEOUT_S = 2.0  # of connecting, and of each answer
MAX_CAUSE_CHARS = 200
# Consumers need longer waits; they must not make a publisher of other regions' messages wait.
BOUNDED = {
    "redis": {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S},
    "amqp": {"connect_timeout": TIMEOUT_S, "read_timeout": TIMEOUT_S, "write_timeout": TIMEOUT_S},
}


class PublishFailed(Transient):
    """The broker did not take the message; it may or may not be in the queue."""

    code = "broker_unavailable"


class Publisher:
    """One producer per broker; safe for threads.

    Celery's own pool would open and check a producer for every message.
    """

    def __init__(self, config: Settings):
        self._config = config
        # One per broker: a producer's channel is not safe to share between threads, and a broker
        # that does not answer must not block the others.
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        self._open: dict[str, tuple[Celery, Producer]] = {}

    def render(self, pool: Pool, attempts: Iterable[tuple[UUID, int]]) -> None:
        """Publish attempts, each a job and its fence, to a pool; on Redis in one round trip.

        Raises PublishFailed; some of the messages may be in the queue then.
        """
        self._send(
            RENDER,
            [([str(job_id), fence], task_id(job_id, fence)) for job_id, fence in attempts],
            queue=pool.queue,
            region=pool.region,
        )

    def send(
        self, task: str, args: list[Any], *, queue: str, message_id: str | None = None
    ) -> None:
        """Publish one task on the broker of this process's region. Raises PublishFailed."""
        self._send(task, [(args, message_id)], queue=queue, region=self._config.region)

    def _send(
        self,
        task: str,
        messages: Sequence[tuple[list[Any], str | None]],
        *,
        queue: str,
        region: str,
    ) -> None:
        broker = self._config.broker_of(region)
        with self._locks[broker]:
            try:
                app, producer = self._open.get(broker) or self._connect(broker, region)
                to = app.amqp.queues[queue_name(app, queue)]
                # A pipeline for one message would cost more than the message.
                batch = producer.batch if len(messages) > 1 else nullcontext
                with batch():
                    for args, message_id in messages:
                        _publish(app, producer, to, task, args, message_id or str(uuid4()))
            except Exception as error:  # kombu's transports raise what their drivers raise
                self._drop(broker)
                cause = f"{type(error).__name__}: {error}"[:MAX_CAUSE_CHARS]
                raise PublishFailed(
                    f"The broker did not take a message for {queue} ({cause})."
                ) from error

    def close(self) -> None:
        for broker in list(self._open):
            with self._locks[broker]:
                self._drop(broker)

    def _connect(self, broker: str, region: str) -> tuple[Celery, Producer]:
        app = make_celery(self._config, region)
        options = BOUNDED["redis" if broker.startswith("redis") else "amqp"]
        connection = app.connection_for_write(connect_timeout=TIMEOUT_S, transport_options=options)
        connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=TIMEOUT_S)
        self._open[broker] = app, app.amqp.Producer(connection)
        return self._open[broker]

    def _drop(self, broker: str) -> None:
        _, producer = self._open.pop(broker, (None, None))
        if producer is not None:
            producer.connection.release()


def _publish(
    app: Celery, producer: Producer, to: Queue, task: str, args: list[Any], message_id: str
) -> None:
    """Publish Celery's own message, without the result, route and signals that send_task makes."""
    message = app.amqp.create_task_message(
        message_id, task, args, argsrepr=repr(args), kwargsrepr="{}"
    )
    producer.publish(  # type: ignore[no-untyped-call]
        message.body,
        exchange="",  # the default one: the routing key is the queue's name
        routing_key=to.name,
        headers=message.headers,
        serializer="json",
        declare=[to],
        **message.properties,
    )
