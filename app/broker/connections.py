"""Redis clients, one per region, and the wake-up channel."""

import secrets
from collections.abc import Callable
from threading import Event

import redis
import structlog

from app.broker import keys
from app.broker.dropped import drop
from app.config.settings import Settings

log = structlog.get_logger(__name__)

# The messages on the wake-up channel.
JOB_QUEUED = "job"
WEBHOOK_DUE = "webhook"
POOL_IDLE = "idle:"  # and the pool: one of its workers became idle
TRAFFIC_CHANGED = "traffic"  # a new table, or an operator's decision: for every listener
MAX_WAKE_CHARS = 512  # the longest has the names of a region and a profile
TAKEN_MS = 5000  # far longer than the slowest dispatcher takes to receive a message


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
    """Tell one of the dispatchers to look now. Raises redis.RedisError."""
    client.publish(keys.WAKE, wake_up(message))


def wake_up(message: str) -> str:
    """The message as it travels: one dispatcher takes each."""
    return f"{message}#{secrets.token_hex(8)}"


def wake(client: redis.Redis, message: str = JOB_QUEUED) -> None:
    """`send_wake`, lossy on purpose: the dispatchers also poll."""
    try:
        send_wake(client, message)
    except redis.RedisError as error:
        log.warning("wake_not_sent", error=str(error))


def listen(client: redis.Redis, heard: Callable[[str, bool], None], stopping: Event) -> None:
    """Call `heard(message, first)` with wake-ups until `stopping` is set; survives Redis outages.

    Every dispatcher hears every wake-up. `first` is true for the one that took it and acts: two
    that count, claim and lock for one job cost as much as two jobs. If that one dies, the next
    poll finds the job.
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
    known = text in (JOB_QUEUED, WEBHOOK_DUE, TRAFFIC_CHANGED) or text.startswith(POOL_IDLE)
    if not known or len(data) > MAX_WAKE_CHARS:
        drop("wake", "not a wake-up")
        return
    taken = client.set(keys.wake_taken(nonce), 1, nx=True, px=TAKEN_MS)
    heard(text, bool(taken))
