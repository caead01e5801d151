"""Find the bottleneck of a running stack: processors, Postgres waits, and queues."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event, Thread
from time import perf_counter

import psycopg

from scripts.benchmarks.processes import cpu_s, family, machine_s
from scripts.stack import Stack

SAMPLE_S = 0.2
# Fraction of all cores; on a machine this busy, everything waits.
MACHINE_FULL = 0.90
# Fraction of one core, by one process: Python runs one thread at a time.
PROCESS_FULL = 0.85
SESSIONS = """
    SELECT coalesce(wait_event_type || ' ' || wait_event, 'running'), count(*)
    FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() GROUP BY 1
"""
# Each count scans its own partial index, however many jobs have ended.
LIVE = """
    SELECT (SELECT count(*) FROM jobs WHERE state = 'queued' AND not_before IS NULL) AS queued,
           (SELECT count(*) FROM jobs WHERE state = 'starting') AS starting,
           (SELECT count(*) FROM jobs WHERE state = 'processing') AS processing
"""
LIVE_STATES = ("queued", "starting", "processing")


@dataclass
class Use:
    """Means over one step. Processor use in cores."""

    cores: int
    machine: float  # fraction of all cores in use, by any process
    families: dict[str, float]  # by name: each process with its children
    hottest: tuple[str, float]  # the process that used most
    sessions: dict[str, float]  # active database sessions, by what they wait for
    live: dict[str, float]  # jobs, by state
    workers: int  # that could render at a time

    @property
    def others(self) -> float:
        """Cores used by processes outside the stack and the benchmark."""
        return max(0.0, self.machine * self.cores - sum(self.families.values()))

    def bottleneck(self) -> str:
        """The first saturated resource, in words and figures."""
        most = sorted(self.families.items(), key=lambda item: -item[1])[:3]
        shares = ", ".join(f"{name} {used:.2f}" for name, used in most)
        if self.machine >= MACHINE_FULL:
            return (
                f"processors: {self.machine:.0%} of {self.cores} cores are in use"
                f" ({shares}, other processes {self.others:.2f})"
            )
        name, used = self.hottest
        if used >= PROCESS_FULL:
            return f"one process: {name} uses {used:.2f} of a core; start another one"
        waits = {name: n for name, n in self.sessions.items() if name != "running"}
        if waits and (wait := max(waits, key=waits.__getitem__)) and waits[wait] >= 1.0:
            return f"Postgres: {waits[wait]:.1f} sessions at a time wait for {wait}"
        queued, busy = self.live.get("queued", 0.0), self.live.get("processing", 0.0)
        if queued > self.workers:
            if busy >= 0.8 * self.workers:
                return f"workers: {busy:.1f} of {self.workers} render while {queued:.0f} jobs wait"
            return f"placement: {queued:.0f} jobs wait and only {busy:.1f} workers render"
        return f"nothing is saturated: {self.machine:.0%} of {self.cores} cores in use ({shares})"


@dataclass
class Watch:
    """Measures while the block runs; afterwards `use` has the means.

    `workers`: how many jobs the stack's workers can render at a time.
    """

    stack: Stack
    workers: int
    _stop: Event = field(default_factory=Event)
    _use: Use | None = None

    @property
    def use(self) -> Use:
        if self._use is None:
            raise RuntimeError("the block has not ended yet")
        return self._use

    def __enter__(self) -> "Watch":
        self._cpu = self._cpu_now()
        self._machine = machine_s()
        self._began = perf_counter()
        self._sessions: Counter[str] = Counter()
        self._live: Counter[str] = Counter()
        self._samples = 0
        self._thread = Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        elapsed = perf_counter() - self._began
        cpu = self._cpu_now()
        machine = machine_s()
        used, whole = machine[0] - self._machine[0], machine[1] - self._machine[1]
        self._stop.set()
        self._thread.join()
        # A process that did not exist at the start has used all of its time since then.
        spent = {key: (now - self._cpu.get(key, 0.0)) / elapsed for key, now in cpu.items()}
        families: dict[str, float] = defaultdict(float)
        for (name, _), cores in spent.items():
            families[name] += cores
        (hottest, _), most = max(spent.items(), key=lambda item: item[1])
        self._use = Use(
            cores=os.cpu_count() or 1,
            machine=used / whole if whole else 0.0,
            families=dict(families),
            hottest=(hottest, most),
            sessions=self._mean(self._sessions),
            live=self._mean(self._live),
            workers=self.workers,
        )

    def _cpu_now(self) -> dict[tuple[str, int], float]:
        """Processor seconds of every process, by its name in the stack."""
        running = [name for name in self.stack.processes if self.stack.running(name)]
        members = {
            name: family(self.stack.pid(name)) for name in [*running, *self.stack.services.servers]
        }
        members["load generator"] = {os.getpid()}
        return {(name, pid): cpu_s(pid) for name, pids in members.items() for pid in pids}

    def _sample(self) -> None:
        url = self.stack.env["DATABASE_URL"]
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            while not self._stop.wait(SAMPLE_S):
                self._sessions.update(
                    {str(name): int(n) for name, n in connection.execute(SESSIONS)}
                )
                [counts] = connection.execute(LIVE).fetchall()
                self._live.update(dict(zip(LIVE_STATES, counts, strict=True)))
                self._samples += 1

    def _mean(self, counted: Mapping[str, int]) -> dict[str, float]:
        return {name: count / max(1, self._samples) for name, count in counted.items()}
