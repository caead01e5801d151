"""Redis clients, one per region, and the wake-up channel."""

import secrets
from collections.abc import Callable
from importlib.resources import files
from threading import Event
from time import monotonic

import redis
import structlog
from redis.connection import ConnectionInterface

from app.broker import keys
from app.broker.dropped import drop
from app.config.settings import Settings

log = structlog.get_logger(__name__)

# The wake-ups.
JOB_QUEUED = "job"
JOB_OF = "job:"  # and its profile
WEBHOOK_DUE = "webhook"
POOL_IDLE = "idle:"  # and the pool: one of its workers became idle
TRAFFIC_CHANGED = "traffic"  # a new table, or an operator's decision: for every listener
MAX_WAKE_CHARS = 512  # the longest has the names of a region and a profile
TAKEN_MS = 5000  # far longer than the slowest dispatcher takes to receive a message
TURN_S = 1.0  # a dispatcher waits this long for a wake-up, then asks anew
TURNS_KEPT_MS = 3000
WAKE_KEYS = [keys.TURNS, keys.WAKE_UPS]
_WAKE = files("app.broker").joinpath("wake.lua").read_text()


def connect(url: str, timeout_s: float, *, pool_size: int = 20) -> redis.Redis:
    """A client whose every wait is bounded: a half-open connection must not hang its user.

    Bytes that are not UTF-8 become U+FFFD, for the reader to reject: decoding must not raise.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        health_check_interval=10,
        max_connections=pool_size,
        decode_responses=True,
        encoding_errors="replace",
    )


class RegionRedis:
    """The Redis of each region; regions without one of their own share the deployment's."""

    def __init__(self, settings: Settings, *, timeout_s: float | None = None):
        self._settings = settings
        self._timeout_s = timeout_s or settings.redis_timeout_s
        self._clients: dict[str, redis.Redis] = {}

    def url(self, region: str) -> str:
        return self._settings.redis_of(region)

    def of(self, region: str) -> redis.Redis:
        """The client of a region. Threads may share it."""
        url = self.url(region)
        if url not in self._clients:
            self._clients[url] = connect(url, self._timeout_s)
        return self._clients[url]

    def urls(self) -> dict[str, redis.Redis]:
        """Every distinct Redis of the deployment."""
        for region in self._settings.topology.names:
            self.of(region)
        return dict(self._clients)


def send_wake(client: redis.Redis, message: str) -> None:
    """Tell one dispatcher to look now, or all if each must know. Raises redis.RedisError."""
    if message == TRAFFIC_CHANGED:
        client.publish(keys.WAKE, wake_up(message)[-1])
        return
    names = [*WAKE_KEYS]
    if message.startswith(POOL_IDLE):
        names.append(keys.emptied(message.removeprefix(POOL_IDLE)))
    client.register_script(_WAKE)(keys=names, args=wake_up(message))


def wake_up(message: str) -> list[str]:
    """The arguments that wake.lua takes for a message."""
    # Dispatchers of the last release know of no profiles.
    known = JOB_QUEUED if message.startswith(JOB_OF) else message
    return [message, keys.WAKE, f"{known}#{secrets.token_hex(8)}"]


def wake(client: redis.Redis, message: str = JOB_QUEUED) -> None:
    """`send_wake`, lossy on purpose: the dispatchers also poll."""
    try:
        send_wake(client, message)
    except redis.RedisError as error:
        log.warning("wake_not_sent", error=str(error))


def take_turns(client: redis.Redis, heard: Callable[[str], None], stopping: Event) -> None:
    """Call `heard` with the wake-ups that this dispatcher takes, until `stopping` is set.

    Redis gives each to the dispatcher that has waited longest. One that freezes or dies is given
    one more at most, and the next poll finds its job. `client` must wait longer than TURN_S.
    """
    while not stopping.is_set():
        try:
            # One connection, as a subscription has. Taking one from the pool for each wake-up would
            # be half of what it costs to wait for it.
            connection = client.connection_pool.get_connection()
            try:
                _take_turns(client, connection, heard, stopping)
            finally:
                connection.disconnect()  # type: ignore[no-untyped-call]
                client.connection_pool.release(connection)
        except redis.RedisError as error:
            log.warning("wake_channel_lost", error=str(error))
            stopping.wait(1.0)


def _take_turns(
    client: redis.Redis,
    connection: ConnectionInterface,
    heard: Callable[[str], None],
    stopping: Event,
) -> None:
    noted_at = -TURN_S
    while not stopping.is_set():
        if monotonic() >= noted_at + TURN_S:
            client.set(keys.TURNS, 1, px=TURNS_KEPT_MS)
            noted_at = monotonic()
        connection.send_command(  # type: ignore[no-untyped-call]
            "BLPOP", keys.WAKE_UPS, TURN_S
        )
        taken = connection.read_response()  # None, or the list's name and the wake-up
        if taken is None:
            continue
        if stopping.is_set():
            send_wake(client, taken[1])
        elif _is_wake_up(taken[1]):
            heard(taken[1])


def listen(client: redis.Redis, heard: Callable[[str, bool], None], stopping: Event) -> None:
    """Call `heard(message, first)` with wake-ups that all dispatchers hear; survives outages.

    `first` is true for the dispatcher that took it and acts: two that count, claim and lock for
    one job cost as much as two jobs. If that one dies, the next poll finds the job.
    """
    while not stopping.is_set():
        try:
            channel = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            with channel:
                channel.subscribe(keys.WAKE)
                while not stopping.is_set():
                    message = channel.get_message(timeout=1.0)
                    if message is not None:
                        _hear(client, message["data"], heard)
        except redis.RedisError as error:
            log.warning("wake_channel_lost", error=str(error))
            stopping.wait(1.0)


def _hear(client: redis.Redis, data: str, heard: Callable[[str, bool], None]) -> None:
    """Pass on one wake-up if it is one."""
    text, _, nonce = data.partition("#")
    if _is_wake_up(text, len(data)):
        taken = client.set(keys.wake_taken(nonce), 1, nx=True, px=TAKEN_MS)
        heard(text, bool(taken))


def _is_wake_up(text: str, length: int = 0) -> bool:
    known = text in (JOB_QUEUED, WEBHOOK_DUE, TRAFFIC_CHANGED)
    known = known or text.startswith((POOL_IDLE, JOB_OF))
    if known and max(length, len(text)) <= MAX_WAKE_CHARS:
        return True
    drop("wake", "not a wake-up")
    return False
