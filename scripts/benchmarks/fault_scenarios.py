"""How soon the service works again: one fault at a time, on a stack that is otherwise quiet."""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import Error

from scripts.benchmarks.fault_check import LIVE
from scripts.benchmarks.fault_clients import Api
from scripts.benchmarks.fault_testbed import DISPATCHERS, HOME, OTHER, WORKERS, Testbed
from scripts.stack import StackError

WAIT_S = 90.0
DOWN_S = 3.0
LONG_RENDER_S = 24.0
BEGUN = "SELECT extract(epoch FROM started_at)::float8 FROM jobs WHERE id = %s AND begun >= %s"


class Scenarios:
    """Each returns seconds or a ratio. `outage_s`: how long storage is down in the last."""

    def __init__(self, testbed: Testbed, outage_s: float):
        self._testbed = testbed
        self._outage_s = outage_s
        self._api = Api(testbed.stack.url, testbed.key("scenarios"))

    def worker_kill_to_begun_s(self) -> float:
        """SIGKILL of a busy worker, until its job has begun on another."""
        step_s = str(LONG_RENDER_S / 4)
        with self._workers(NOOP_STEP_S=step_s):
            job_id = self._submit(HOME)
            [worker] = self._wait(
                "SELECT worker FROM attempts WHERE job_id = %s AND begun_at IS NOT NULL", job_id
            )
            name = next(
                name for name in WORKERS if worker in self._testbed.stack.log(name).read_text()
            )
            time.sleep(1.0)
            killed = time.time()
            self._testbed.kill(name)
            [begun] = self._wait(BEGUN, job_id, 2)
        return float(begun) - killed

    def valkey_back_to_begun_s(self) -> float:
        """From the first answer of a Valkey that was killed, until a waiting job has begun."""
        with self._down("valkey"):
            job_id = self._submit(HOME)
        back = self._back("valkey")
        [begun] = self._wait(BEGUN, job_id, 1)
        return max(0.0, float(begun) - back)

    def postgres_back_to_accepted_s(self) -> float:
        """From the time a killed Postgres is ready again until a submit is accepted."""
        with self._down("postgres"):
            self._api.submit(region=HOME)
        back = self._back("postgres")
        self._submit(HOME)
        return time.time() - back

    def region_lost_to_overflow_s(self) -> float:
        """From the loss of a region's workers, dispatcher and Valkey, until a job whose home it is
        has begun elsewhere."""
        testbed = self._testbed
        lost = [name for name in (*WORKERS, *DISPATCHERS) if OTHER in name]
        lost += [name for name in testbed.valkeys if OTHER in name]
        for name in lost:
            testbed.stack.kill(name, signal.SIGSTOP)  # so that none comes back by itself
        gone = time.time()
        try:
            job_id = self._submit(OTHER)
            [begun] = self._wait(BEGUN, job_id, 1)
        finally:
            testbed.heal()
        return float(begun) - gone

    def outage_recovery_ratio(self) -> float:
        """Time to drain a backlog after a storage outage, relative to the time without one."""
        testbed = self._testbed
        count = max(8, round(len(WORKERS) * self._outage_s / testbed.render_s / 4))
        normal_s = self._drain(self._backlog(count))
        jobs = self._backlog(count)
        testbed.storage.away()
        time.sleep(self._outage_s)
        with testbed.connect() as connection:
            row = connection.execute(f"SELECT count(*) FROM jobs WHERE {LIVE}").fetchone()
        left = int(row[0]) if row else 0
        testbed.storage.back()
        return self._drain(jobs) / (normal_s * max(1, left) / count)

    def _backlog(self, count: int) -> list[str]:
        """Jobs that all wait, because the dispatchers are frozen during the submits."""
        for name in DISPATCHERS:
            self._testbed.freeze(name)
        try:
            return [self._submit((HOME, OTHER)[n % 2]) for n in range(count)]
        finally:
            self._testbed.thaw(*DISPATCHERS)

    def _drain(self, jobs: list[str]) -> float:
        began = time.monotonic()
        self._wait(
            f"SELECT 1 WHERE NOT EXISTS (SELECT FROM jobs WHERE id::text = ANY(%s) AND {LIVE})",
            jobs,
            limit_s=600,
        )
        return time.monotonic() - began

    @contextmanager
    def _workers(self, **env: str) -> Iterator[None]:
        """Workers with other settings for the time of the block."""
        for name in WORKERS:
            self._testbed.restart(name, **env)
        self._testbed.stack.wait_ready(*WORKERS)
        try:
            yield
        finally:
            for name in WORKERS:
                self._testbed.kill(name)
                self._testbed.restart(name)
            self._testbed.heal()

    @contextmanager
    def _down(self, server: str) -> Iterator[None]:
        """A server is killed and stays down until the block ends."""
        stack = self._testbed.stack
        self._testbed.kill(server)
        stack.stop(server)  # so that the supervisor does not start it again
        time.sleep(DOWN_S)
        try:
            yield
        finally:
            stack.start(server, wait=False)

    def _back(self, server: str) -> float:
        """The Unix time at which a server answers again."""
        deadline = time.monotonic() + WAIT_S
        while not self._testbed.stack.ready(server):
            if time.monotonic() > deadline:
                raise StackError(f"{server} did not come back")
            time.sleep(0.01)
        return time.time()

    def _submit(self, region: str) -> str:
        """Submit until it is accepted."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            _, job_id = self._api.submit(region=region)
            if job_id:
                return job_id
            time.sleep(0.05)
        raise StackError(f"no submit was accepted within {WAIT_S:.0f} s")

    def _wait(self, query: str, *values: object, limit_s: float = WAIT_S) -> tuple[Any, ...]:
        """The first row of a query, once there is one."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            try:
                with self._testbed.connect() as connection:
                    while time.monotonic() < deadline:
                        row = connection.execute(query.encode(), values).fetchone()
                        if row is not None:
                            return tuple(row)
                        time.sleep(0.05)
            except Error:
                time.sleep(0.1)
        raise StackError(f"nothing within {limit_s:.0f} s: {query}")


NAMES = (
    "worker_kill_to_begun_s",
    "valkey_back_to_begun_s",
    "postgres_back_to_accepted_s",
    "region_lost_to_overflow_s",
    "outage_recovery_ratio",
)


def run(
    *, broker: str, outage_s: float, rounds: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Every scenario on one stack, `rounds` times; the worst of each. The last runs once."""
    found = {}
    with (
        tempfile.TemporaryDirectory(prefix="stillmotion-scenarios-") as directory,
        Testbed(Path(directory), broker=broker) as testbed,
    ):
        scenarios = Scenarios(testbed, outage_s)
        for name in NAMES:
            once = name == "outage_recovery_ratio"
            seen = [getattr(scenarios, name)() for _ in range(1 if once else rounds)]
            found[name] = max(seen)
            say(f"{name}: {', '.join(f'{value:.2f}' for value in seen)}")
    return found
