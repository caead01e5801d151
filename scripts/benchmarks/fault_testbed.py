"""A stack of two regions in which everything can be broken; every path has its own valve."""

import contextlib
import os
import shutil
import signal
import time
from functools import cached_property
from pathlib import Path

import psycopg
import redis

from app.broker.publish import Publisher
from app.config.settings import Settings
from app.store import keys
from app.store.session import Store
from scripts.benchmarks.harness.rabbitmq import RabbitMQNode
from scripts.benchmarks.harness.storage import Storage
from scripts.benchmarks.harness.valve import Valve
from scripts.benchmarks.harness.webhook_log import WebhookLog
from scripts.stack import Stack, StackError
from scripts.stack.stack import regions_toml
from scripts.stack.supervisor import VALKEY, Spec

REGIONS = HOME, OTHER = ("us-east", "eu-west")
RTT_MS = 20.0
PROFILE = "noop"
STEPS = 4
WORKERS = tuple(f"gpu:{region}:{n}" for region in REGIONS for n in (1, 2))
DISPATCHERS = ("dispatcher", f"dispatcher:{OTHER}")
CPU_WORKERS = ("cpu", f"cpu:{OTHER}")
PROCESSES = ("api", *DISPATCHERS, *WORKERS, *CPU_WORKERS)
RABBITMQ_S = 90.0
# The stack starts its own services, so as not to break an operator's by accident.
OURS = {name.upper() for name in Settings.model_fields}


class Testbed:
    """The stack, its valves, its storage and a receiver of webhooks; usable as a context manager.

    `broker`: valkey, rabbitmq (classic queues) or rabbitmq-quorum. With RabbitMQ both regions share
    one node and one Valkey, with Valkey each has its own. `render_s`: how long one render takes.
    Crashed processes start again by themselves.
    """

    def __init__(self, directory: Path, *, broker: str = "valkey", render_s: float = 0.4):
        self._directory = directory
        self.broker = broker
        self.render_s = render_s
        self.storage = Storage(directory)
        self.webhooks = WebhookLog()
        self.stack = Stack(
            None,  # a directory that Postgres can reach
            processes=(),
            regions=REGIONS,
            rtt_ms=RTT_MS,
            valkeys=broker == "valkey",
            env={
                "MODEL_PROFILE": PROFILE,
                "SERVED_PROFILES": PROFILE,
                "MODEL_STEPS": str(STEPS),
                "OUTBOUND_ALLOW": self.webhooks.address,
                # The backlog after an outage is measured, so it must not be refused.
                "ADMISSION": "false",
            },
            environ={name: value for name, value in os.environ.items() if name not in OURS}
            | {"OBJECTS_URL": self.storage.url},
        )
        self._valves: dict[tuple[str, str], Valve] = {}
        self._rabbitmq: RabbitMQNode | None = None

    def __enter__(self) -> "Testbed":
        try:
            self.stack.open()
            if self.broker != "valkey":
                self._start_rabbitmq()
            for name in PROCESSES:
                self.start(name, wait=False)
            self.stack.wait_ready(*PROCESSES)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.thaw()
        self.stack.close()
        if self._rabbitmq is not None:
            self._rabbitmq.end_port_mapper()
        for valve in self._valves.values():
            valve.close()
        self.webhooks.close()

    # Its parts.

    @property
    def valkeys(self) -> list[str]:
        return sorted({self.stack.valkey_of(region) for region in REGIONS})

    @property
    def servers(self) -> list[str]:
        """Everything that a process talks to through a valve."""
        return ["postgres", *self.valkeys, *(["rabbitmq"] if self._rabbitmq else [])]

    def url(self, server: str) -> str:
        """The direct URL of a server."""
        if server == "rabbitmq" and self._rabbitmq is not None:
            return self._rabbitmq.url
        if server == "postgres":
            return self.stack.env["DATABASE_URL"]
        if server == "valkey":
            return self.stack.env["REDIS_URL"]
        return self.stack.services.redis_urls[server]

    def valve(self, process: str, server: str) -> Valve:
        """The valve on the path from a process to a server."""
        if (process, server) not in self._valves:
            self._valves[process, server] = Valve(self.url(server))
        return self._valves[process, server]

    @cached_property
    def settings(self) -> Settings:
        """Settings that reach every server directly."""
        env = self.stack.env | (self._rabbitmq_env(self.url("rabbitmq")) if self._rabbitmq else {})
        return Settings.model_validate({name.lower(): value for name, value in env.items()})

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(self.settings)

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection:
        """A direct connection to Postgres. Raises psycopg.OperationalError while it is down."""
        return psycopg.connect(self.url("postgres"), autocommit=autocommit, connect_timeout=5)

    def redis(self, server: str) -> redis.Redis:
        return redis.Redis.from_url(self.url(server), socket_timeout=2, decode_responses=True)

    def key(self, name: str, *, max_concurrency: int | None = None) -> str:
        """A new API key."""
        store = Store(self.settings.sqlalchemy_url, pool_size=1)
        with contextlib.closing(store), store.begin() as tx:
            return keys.create(tx, name, max_concurrency=max_concurrency, best_priority=0)[1]

    # Actions on it.

    def start(self, name: str, *, wait: bool = True, **env: str) -> None:
        """Start a process behind its valves."""
        self.stack.start(name, env=self._env(name) | env, wait=wait)

    def restart(self, name: str, **env: str) -> None:
        """End a process in an orderly way and start it with other settings; returns at once."""
        self.stack.stop(name)
        self.start(name, wait=False, **env)

    def kill(self, name: str) -> None:
        """SIGKILL, with all children; the supervisor starts it again."""
        self._signal(name, signal.SIGKILL)

    def terminate(self, name: str) -> None:
        """SIGTERM to the leader alone."""
        with contextlib.suppress(ProcessLookupError, KeyError):
            os.kill(self.stack.pid(name), signal.SIGTERM)

    def freeze(self, name: str) -> None:
        self._signal(name, signal.SIGSTOP)

    def thaw(self, *names: str) -> None:
        """Resume these processes, or all of them if none is named."""
        for name in names or (*PROCESSES, *self.valkeys):
            self._signal(name, signal.SIGCONT)

    def empty_valkey(self, name: str) -> None:
        """Kill a Valkey and remove its log; it comes back empty."""
        self.kill(name)
        deadline = time.monotonic() + 5
        while self.stack.running(name) and time.monotonic() < deadline:
            time.sleep(0.005)
        folder = self.stack.data.path / name.replace(":", "-") / "appendonlydir"
        shutil.rmtree(folder, ignore_errors=True)

    def heal(self) -> None:
        """End every fault that lasts, and wait until every process is ready again."""
        self.thaw()
        self.storage.back()
        self.webhooks.status = 204
        for valve in self._valves.values():
            valve.heal()
        for name in (*self.servers, *PROCESSES):
            self._wait_ready(name)

    def _wait_ready(self, name: str) -> None:
        """Unlike the stack's own, also waits for a process that crashed often."""
        deadline = time.monotonic() + 120
        while not (self.rabbitmq_answers() if name == "rabbitmq" else self.stack.ready(name)):
            if time.monotonic() > deadline:
                raise StackError(f"{name} is not ready 120 s after the last fault")
            time.sleep(0.1)

    def rabbitmq_answers(self) -> bool:
        try:
            return self._rabbitmq is not None and self._rabbitmq.answers()
        except Exception:  # whatever the driver raises, the node does not answer
            return False

    def _signal(self, name: str, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError, KeyError):
            self.stack.kill(name, number)

    def _env(self, name: str) -> dict[str, str]:
        """The settings of one process: the servers' URLs lead through its valves."""
        through = {server: self.valve(name, server).through for server in self.servers}
        file = self._directory / f"regions-{name.replace(':', '-')}.toml"
        own_valkeys = {
            region: through[self.stack.valkey_of(region)]
            for region in REGIONS
            if self.stack.valkey_of(region) != "valkey"
        }
        file.touch(mode=0o600)  # the URLs have passwords
        file.write_text(regions_toml(REGIONS, RTT_MS, own_valkeys))
        env = {
            "DATABASE_URL": through["postgres"],
            "REDIS_URL": through["valkey"],
            "REGIONS_FILE": str(file),
            "NOOP_STEP_S": str(self.render_s / STEPS),
        }
        if self._rabbitmq is not None:
            env |= self._rabbitmq_env(through["rabbitmq"])
        return env

    def _rabbitmq_env(self, url: str) -> dict[str, str]:
        kind = "quorum" if self.broker == "rabbitmq-quorum" else "classic"
        return {"BROKER_URL": url, "BROKER_QUEUE_TYPE": kind}

    def _start_rabbitmq(self) -> None:
        folder = self._directory / "rabbitmq"
        folder.mkdir()
        names = ("rabbitmq", "rabbitmq-mapper", "rabbitmq-peers")
        ports = self.stack.data.ports(names)
        amqp, mapper, peers = (ports[name] for name in names)
        node = RabbitMQNode(folder, (amqp, mapper, peers))
        spec = Spec("rabbitmq", node.argv, node.env, folder, stage=VALKEY)
        self.stack.services.supervisor.start(spec)
        self._rabbitmq = node
        deadline = time.monotonic() + RABBITMQ_S
        while not self.rabbitmq_answers():
            if time.monotonic() > deadline:
                raise StackError(f"rabbitmq is not ready after {RABBITMQ_S:.0f} s")
            time.sleep(0.2)
