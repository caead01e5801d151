"""The faults of a storm. Each strikes at random targets; those that last say how they end."""

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import psycopg
import redis

from app.broker.publish import PublishFailed
from app.domain.job.messages import DELIVER, HOUSEKEEPING_QUEUE, SWEEP, WEBHOOKS_QUEUE
from app.domain.routing.topology import Pool
from scripts.benchmarks.fault_clients import Crowd
from scripts.benchmarks.fault_testbed import (
    CPU_WORKERS,
    DISPATCHERS,
    PROCESSES,
    PROFILE,
    WORKERS,
    Testbed,
)
from scripts.benchmarks.harness.webhook_log import SILENT

PAST_A_LEASE_S = 36.0
COPIES = 20


@dataclass(frozen=True)
class Struck:
    """A fault that was made. `end`, if there is one, is due after `lasts_s`."""

    target: str
    lasts_s: float = 0.0
    end: Callable[[], None] | None = None


class Faults:
    """Every kind of fault, with the weight at which it is drawn."""

    def __init__(self, testbed: Testbed, crowd: Crowd, draw: random.Random):
        self._testbed = testbed
        self._crowd = crowd
        self._draw = draw
        self.kinds: dict[str, tuple[Callable[[], Struck], float]] = {
            "kill": (self._kill, 6),
            "freeze": (self._freeze, 4),
            "terminate": (self._terminate, 3),
            "postgres_backends": (self._end_backends, 2),
            "postgres_kill": (self._kill_postgres, 1),
            "postgres_lock": (self._hold_lock, 1),
            "valkey_kill": (self._kill_valkey, 1.5),
            "valkey_lose": (self._lose_valkey, 1),
            "valkey_flush": (self._flush, 2),
            "valkey_freeze": (self._freeze_valkey, 1),
            "path_cut": (self._cut, 3),
            "path_silent": (self._silence, 3),
            "path_refused": (self._refuse, 2),
            "path_slow": (self._slow, 2),
            "storage_away": (self._storage_away, 1),
            "storage_read_only": (self._storage_read_only, 1),
            "duplicate_attempts": (self._duplicate_attempts, 2),
            "duplicate_webhooks": (self._duplicate_webhooks, 1),
            "receiver_fails": (self._receiver_fails, 1),
            "sweep": (self._sweep, 0.5),
            "cancel_storm": (lambda: self._order("cancel"), 1),
            "delete_storm": (lambda: self._order("delete"), 0.5),
        }
        if "rabbitmq" in testbed.servers:
            self.kinds["rabbitmq_kill"] = (self._kill_rabbitmq, 1)

    def strike(self) -> tuple[str, Struck]:
        """Make one fault. Returns its kind and what it struck."""
        names = list(self.kinds)
        [name] = self._draw.choices(names, [self.kinds[each][1] for each in names])
        return name, self.kinds[name][0]()

    def _lasting(self) -> float:
        return self._draw.uniform(0.5, 6.0)

    def _process(self) -> str:
        """Every kind of process is equally likely, workers twice as likely."""
        kind = self._draw.choice((WORKERS, WORKERS, DISPATCHERS, CPU_WORKERS, ("api",)))
        return self._draw.choice(kind)

    def _kill(self) -> Struck:
        name = self._process()
        self._testbed.kill(name)
        return Struck(name)

    def _terminate(self) -> Struck:
        name = self._process()
        self._testbed.terminate(name)
        return Struck(name)

    def _freeze(self) -> Struck:
        name = self._process()
        self._testbed.freeze(name)
        # A worker that sleeps through its lease is the zombie that the fence is for.
        long = name in WORKERS and self._draw.random() < 0.25
        lasts_s = PAST_A_LEASE_S if long else self._lasting()
        return Struck(name, lasts_s, lambda: self._testbed.thaw(name))

    def _end_backends(self) -> Struck:
        part = self._draw.random()
        with contextlib.suppress(psycopg.Error), self._testbed.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <>"
                " pg_backend_pid() AND backend_type = 'client backend' AND random() < %s",
                (part,),
            )
        return Struck(f"{part:.0%} of the backends")

    def _kill_postgres(self) -> Struck:
        self._testbed.kill("postgres")
        return Struck("postmaster")

    def _hold_lock(self) -> Struck:
        try:
            connection = self._testbed.connect(autocommit=False)
            connection.execute("SET lock_timeout = '1s'")
            connection.execute("LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE")
        except psycopg.Error:
            return Struck("nothing: Postgres is away or busy")
        return Struck("jobs", self._lasting(), connection.close)

    def _valkey(self) -> str:
        return self._draw.choice(self._testbed.valkeys)

    def _kill_valkey(self) -> Struck:
        name = self._valkey()
        self._testbed.kill(name)
        return Struck(name)

    def _lose_valkey(self) -> Struck:
        name = self._valkey()
        self._testbed.empty_valkey(name)
        return Struck(name)

    def _flush(self) -> Struck:
        name = self._valkey()
        with contextlib.suppress(redis.RedisError), self._testbed.redis(name) as client:
            client.flushall()
        return Struck(name)

    def _freeze_valkey(self) -> Struck:
        name = self._valkey()
        self._testbed.freeze(name)
        return Struck(name, self._lasting(), lambda: self._testbed.thaw(name))

    def _kill_rabbitmq(self) -> Struck:
        self._testbed.kill("rabbitmq")
        return Struck("rabbitmq")

    def _path(self) -> tuple[str, str]:
        return self._draw.choice(PROCESSES), self._draw.choice(self._testbed.servers)

    def _cut(self) -> Struck:
        path = self._path()
        self._testbed.valve(*path).cut()
        return Struck(" - ".join(path))

    def _silence(self) -> Struck:
        path = self._path()
        valve = self._testbed.valve(*path)
        valve.silence(new=self._draw.random() < 0.5)
        lasts_s = PAST_A_LEASE_S if self._draw.random() < 0.15 else 2 * self._lasting()
        return Struck(" - ".join(path), lasts_s, valve.heal)

    def _refuse(self) -> Struck:
        path = self._path()
        valve = self._testbed.valve(*path)
        valve.refuse()
        return Struck(" - ".join(path), self._lasting(), valve.heal)

    def _slow(self) -> Struck:
        path = self._path()
        valve = self._testbed.valve(*path)
        valve.delay_s = self._draw.uniform(0.02, 1.0)
        return Struck(" - ".join(path), self._lasting(), valve.heal)

    def _storage_away(self) -> Struck:
        self._testbed.storage.away()
        return Struck("objects", self._lasting(), self._testbed.storage.back)

    def _storage_read_only(self) -> Struck:
        self._testbed.storage.read_only()
        return Struck("objects", self._lasting(), self._testbed.storage.back)

    def _duplicate_attempts(self) -> Struck:
        """The messages of current and of past placements, once more."""
        rows = self._rows(
            "SELECT region, job_id::text, fence FROM attempts ORDER BY placed_at DESC LIMIT 200"
        )
        chosen = self._draw.sample(rows, min(COPIES, len(rows)))
        for region, job_id, fence in chosen:
            pool = Pool(str(region), PROFILE)
            with contextlib.suppress(PublishFailed):
                self._testbed.publisher.render(pool, [(UUID(str(job_id)), int(str(fence)))])
        return Struck(f"{len(chosen)} messages")

    def _duplicate_webhooks(self) -> Struck:
        rows = self._rows(
            "SELECT id::text, tries FROM webhook_deliveries ORDER BY created_at DESC LIMIT 100"
        )
        chosen = self._draw.sample(rows, min(COPIES, len(rows)))
        for delivery_id, tries in chosen:
            with contextlib.suppress(PublishFailed):
                self._testbed.publisher.send(DELIVER, [delivery_id, tries], queue=WEBHOOKS_QUEUE)
        return Struck(f"{len(chosen)} messages")

    def _sweep(self) -> Struck:
        with contextlib.suppress(PublishFailed):
            self._testbed.publisher.send(SWEEP, [], queue=HOUSEKEEPING_QUEUE)
        return Struck("housekeeping")

    def _receiver_fails(self) -> Struck:
        webhooks = self._testbed.webhooks
        webhooks.status = self._draw.choice((500, 429, SILENT))

        def work_again() -> None:
            webhooks.status = 204

        return Struck("receiver", self._lasting(), work_again)

    def _order(self, what: str) -> Struck:
        self._crowd.order(what)
        return Struck("clients")

    def _rows(self, query: str) -> list[tuple[object, ...]]:
        try:
            with self._testbed.connect() as connection:
                return connection.execute(query.encode()).fetchall()
        except psycopg.Error:
            return []
