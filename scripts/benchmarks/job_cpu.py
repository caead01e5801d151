"""The processor time that our processes use for one job.

Taken from /proc, so that other work on the machine changes it far less than it changes latencies;
with busy neighbours it still reads up to twice as high, because caches are shared.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from scripts.benchmarks.figures import Figure
from scripts.benchmarks.processes import cpu_s, family
from scripts.stack.stack import Stack

IDLE_S = 4.0
DECODER = b"app.pictures.decoder"  # in the command of the process that decodes pictures


class JobCpu:
    """Seconds per job, collected while a benchmark runs."""

    def __init__(self, stack: Stack, workers: tuple[str, ...], dispatchers: tuple[str, ...]):
        self._stack, self._workers, self._dispatchers = stack, workers, dispatchers
        self._jobs: dict[str, list[float]] = {"worker": [], "dispatcher": [], "submit": []}
        self._submit_began = 0.0

    def trickle(self, jobs: int, work: Callable[[], None]) -> None:
        """Run `work`, in which jobs come one at a time: what dispatchers use beyond idling."""
        before = self._of(self._dispatchers)
        time.sleep(IDLE_S)
        start, began = self._of(self._dispatchers), time.monotonic()
        idle = (start - before) / IDLE_S
        work()
        used = self._of(self._dispatchers) - start - idle * (time.monotonic() - began)
        self._jobs["dispatcher"].append(max(0.0, used) / jobs)

    def submit_begins(self) -> None:
        self._submit_began = self._gunicorn()

    def submit_ended(self, jobs: int) -> None:
        self._jobs["submit"].append((self._gunicorn() - self._submit_began) / jobs)

    def drain(self, jobs: int, work: Callable[[], float]) -> float:
        """Run `work`, in which the workers do these jobs."""
        before = self._of(self._workers)
        result = work()
        self._jobs["worker"].append((self._of(self._workers) - before) / jobs)
        return result

    def figures(self) -> list[Figure]:
        names = {
            "worker": ("cpu_ms_per_job_worker", 3.0),
            "dispatcher": ("cpu_ms_per_job_dispatcher", 1.2),
            "submit": ("cpu_ms_per_submit", 3.0),
        }
        return [
            Figure(name, median(self._jobs[kind]) * 1000, at_most=most)
            for kind, (name, most) in names.items()
        ]

    def _of(self, names: tuple[str, ...]) -> float:
        return sum(cpu_s(self._stack.pid(name)) for name in names)

    def _gunicorn(self) -> float:
        """Without the decoder, whose processes come and go."""
        return sum(cpu_s(pid) for pid in family(self._stack.pid("api")) if not _decodes(pid))


def _decodes(pid: int) -> bool:
    try:
        return DECODER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True  # gone, and so is its count
