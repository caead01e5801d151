"""Wake-ups: who hears one, and what becomes of those that nobody takes."""

from contextlib import contextmanager
from queue import Empty, Queue
from threading import Event, Thread

import pytest

from app.broker import keys
from app.broker.claims import Claims
from app.broker.connections import (
    JOB_QUEUED,
    POOL_IDLE,
    TRAFFIC_CHANGED,
    TURN_S,
    WEBHOOK_DUE,
    connect,
    listen,
    send_wake,
    take_turns,
)
from app.domain.routing.topology import Pool
from tests.support import services

EAST = Pool("us-east", "noop")
IDLE = f"{POOL_IDLE}{EAST}"
QUIET_S = 0.3  # a wake-up takes a millisecond


@pytest.fixture
def client(redis_url):
    with connect(redis_url, TURN_S + 2.0) as client:
        yield client


class Dispatcher:
    """The two threads of a dispatcher that hear wake-ups."""

    def __init__(self, client):
        self.stopping = Event()
        self.heard: Queue[tuple[str, bool]] = Queue()
        self.threads = [
            Thread(target=listen, args=(client, self.hear, self.stopping)),
            Thread(target=take_turns, args=(client, self.hear, self.stopping)),
        ]
        for thread in self.threads:
            thread.start()

    def hear(self, message, first=True):
        self.heard.put((message, first))

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=10)

    def take_all(self):
        """What it has heard until it was quiet for a while."""
        found = []
        while True:
            try:
                found.append(self.heard.get(timeout=QUIET_S))
            except Empty:
                return found


@contextmanager
def dispatchers(client, count):
    """Dispatchers whose subscriptions are known to Redis."""
    found = [Dispatcher(client) for _ in range(count)]
    try:
        services.wait_until(
            lambda: (
                dict(client.pubsub_numsub(keys.WAKE))[keys.WAKE] == count
                and client.exists(keys.TURNS)
            ),
            timeout_s=10,
        )
        yield found
    finally:
        for each in found:
            each.stop()


def test_one_dispatcher_takes_a_wake_up_and_the_other_does_not_hear_of_it(client):
    with dispatchers(client, 2) as both:
        for message in (JOB_QUEUED, WEBHOOK_DUE, IDLE):
            send_wake(client, message)
            heard = [each.take_all() for each in both]
            assert sorted(heard) == [[], [(message, True)]]
    assert not client.exists(keys.WAKE_UPS)


def test_all_hear_what_each_must_know(client):
    with dispatchers(client, 2) as both:
        send_wake(client, TRAFFIC_CHANGED)
        assert [[message for message, _ in each.take_all()] for each in both] == [
            [TRAFFIC_CHANGED],
            [TRAFFIC_CHANGED],
        ]


def test_one_of_all_that_hear_it_acts_on_an_idle_worker(client):
    claims = Claims(client)
    with dispatchers(client, 2) as both:

        def heard():
            """How many heard of the worker, and how many of them act."""
            found = [each.take_all() for each in both]
            assert {message for one in found for message, _ in one} <= {IDLE}
            return len([one for one in found if one]), sum(act for one in found for _, act in one)

        def ends_a_job(worker):
            claims.announce(EAST, worker, idle=False)
            claims.announce(EAST, worker, wake=True)

        claims.announce(EAST, "e1", wake=True)
        assert heard() == (2, 1), "nobody expects a new worker"
        claims.announce(EAST, "e2")
        ends_a_job("e1")
        assert heard() == (1, 1)
        assert claims.claim(EAST, ["a"]).left == 1
        ends_a_job("e1")
        assert heard() == (1, 1)
        assert claims.claim(EAST, ["b"]).left == 0
        ends_a_job("e1")
        assert heard() == (2, 1), "whoever claimed takes the pool for empty"
        claims.give_back(EAST, ["a", "b"])
        assert claims.claim(EAST, ["c"]).left == 1
        ends_a_job("e1")
        assert heard() == (2, 1), "another claim does not tell the first"
        send_wake(client, IDLE)
        assert heard() == (2, 1)
        client.delete(keys.emptied(EAST))
        claims.give_back(EAST, ["c"], closing=True)
        ends_a_job("e1")
        assert heard() == (2, 1), "it could not publish"


def test_without_dispatchers_that_take_turns_all_hear_everything(client):
    """Those of the last release only listen; and a list without takers must not grow."""
    heard: Queue[tuple[str, bool]] = Queue()
    stopping = Event()
    old = Thread(target=listen, args=(client, lambda *a: heard.put(a), stopping))
    old.start()
    try:
        services.wait_until(lambda: dict(client.pubsub_numsub(keys.WAKE))[keys.WAKE] == 1)
        send_wake(client, JOB_QUEUED)
        assert heard.get(timeout=5) == (JOB_QUEUED, True)
        Claims(client).announce(EAST, "e1", wake=True)
        assert heard.get(timeout=5) == (IDLE, True)
    finally:
        stopping.set()
        old.join(timeout=10)
    assert not client.exists(keys.WAKE_UPS)


def test_a_wake_up_that_waits_is_not_sent_twice(client):
    client.set(keys.TURNS, 1)
    for _ in range(3):
        send_wake(client, JOB_QUEUED)
        send_wake(client, IDLE)
        Claims(client).announce(EAST, "e1", idle=False)
        Claims(client).announce(EAST, "e1", wake=True)
    assert client.lrange(keys.WAKE_UPS, 0, -1) == [JOB_QUEUED, IDLE]


def test_a_dispatcher_that_freezes_swallows_one_wake_up_at_most(client, redis_url):
    with connect(redis_url, TURN_S + 2.0) as other, dispatchers(client, 1) as [awake]:
        frozen = other.connection_pool.get_connection()
        frozen.send_command("BLPOP", keys.WAKE_UPS, 60)  # and never reads the answer
        services.wait_until(lambda: client.info("clients")["blocked_clients"] == 2)
        for _ in range(3):
            send_wake(client, JOB_QUEUED)
            awake.take_all()
        send_wake(client, WEBHOOK_DUE)
        assert awake.take_all() == [(WEBHOOK_DUE, True)]
        frozen.disconnect()


def test_a_dispatcher_that_stops_leaves_its_wake_up_to_another(client):
    stopping, heard = Event(), []
    leaving = Thread(target=take_turns, args=(client, heard.append, stopping))
    leaving.start()
    services.wait_until(lambda: client.info("clients")["blocked_clients"] == 1)
    stopping.set()
    send_wake(client, JOB_QUEUED)
    leaving.join(timeout=10)
    assert not heard
    assert client.lrange(keys.WAKE_UPS, 0, -1) == [JOB_QUEUED]


def test_what_is_no_wake_up_is_dropped(client):
    with dispatchers(client, 1) as [one]:
        client.rpush(keys.WAKE_UPS, b"\xff\xfe", "", "x" * 10_000, "[]", JOB_QUEUED)
        assert one.take_all() == [(JOB_QUEUED, True)]
