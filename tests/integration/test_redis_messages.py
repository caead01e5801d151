"""Messages on Redis: what a worker holds is in its memory, and is put back when it lets go."""

import kombu
import pytest

from app.broker import redis_transport
from app.broker.connections import connect

QUEUE = "held"


@pytest.fixture
def redis(redis_url):
    client = connect(redis_url, 2.0)
    yield client
    client.close()


class Holder:
    """A consumer that may hold one message, as a GPU worker may."""

    def __init__(self, url: str):
        redis_transport.install()
        self.connection = kombu.Connection(url)
        self.channel = self.connection.channel()
        queue = kombu.Queue(QUEUE, channel=self.channel)
        self.consumer = kombu.Consumer(self.channel, [queue], prefetch_count=1)
        self.consumer.register_callback(lambda body, message: self.held.append(message))
        self.consumer.qos(prefetch_count=1)
        self.held: list[kombu.Message] = []

    def publish(self, *bodies: str) -> None:
        with self.connection.Producer() as producer:
            for body in bodies:
                producer.publish(body, routing_key=QUEUE, declare=[kombu.Queue(QUEUE)])

    def take(self) -> kombu.Message:
        """The next message; a second one must not come while this one is held."""
        self.consumer.consume()
        self.connection.drain_events(timeout=5)
        with pytest.raises(TimeoutError):
            self.connection.drain_events(timeout=0.3)
        [message] = self.held
        self.held.clear()
        return message


@pytest.fixture
def holder(redis_url):
    holder = Holder(redis_url)
    yield holder
    holder.connection.close()


def test_redis_keeps_no_record_of_a_held_message(holder, redis):
    holder.publish("first", "second")
    message = holder.take()
    assert message.payload == "first"
    assert redis.llen(QUEUE) == 1, "the second waits in the queue"
    assert not redis.exists("unacked", "unacked_index")
    message.ack()
    assert holder.take().payload == "second"


def test_a_message_that_is_handed_back_comes_again(holder, redis):
    holder.publish("first")
    holder.take().reject(requeue=True)
    assert redis.llen(QUEUE) == 1
    again = holder.take()
    assert again.payload == "first"
    again.reject(requeue=False)
    assert redis.llen(QUEUE) == 0


def test_a_message_that_is_held_at_the_end_is_put_back(holder, redis):
    holder.publish("first")
    holder.take()
    assert redis.llen(QUEUE) == 0
    holder.connection.close()
    assert redis.llen(QUEUE) == 1


def test_an_acknowledged_message_is_not_put_back(holder, redis):
    holder.publish("first")
    holder.take().ack()
    holder.connection.close()
    assert redis.llen(QUEUE) == 0


def test_a_message_that_an_earlier_release_held_is_put_back(holder, redis):
    holder.publish("first")
    [entry] = redis.lrange(QUEUE, 0, -1)
    redis.delete(QUEUE)
    redis.hset("unacked", "tag", f'[{entry}, "", "{QUEUE}"]')
    redis.zadd("unacked_index", {"tag": 1.0})
    holder.channel.qos.restore_visible(num=10)
    assert not redis.exists("unacked", "unacked_index")
    assert holder.take().payload == "first"


def test_commands_share_one_client(holder):
    with holder.channel.conn_or_acquire() as one, holder.channel.conn_or_acquire() as other:
        assert one is other
