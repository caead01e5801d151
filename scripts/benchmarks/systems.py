"""What the pipeline benchmark asks of a system, ours or a peer, and how it measures one.

Latencies are those of one client at a time. A burst is a number of jobs that four clients submit
while the workers are held back; its rate counts the time that draining them takes.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from scripts.benchmarks.client import Client

CLIENTS = 4
WARM_UP_JOBS = 20  # fill caches, prepared statements, connections
DRAIN_S = 120.0


class System(Protocol):
    """A service with a queue and two workers, which runs."""

    def client(self) -> Client:
        """A connection of its own."""

    def hold(self) -> None:
        """From now on jobs are accepted, and wait."""

    def drain(self, ids: list[str]) -> float:
        """Let the waiting jobs go: seconds until the last one was done.

        By the system's own times, so that nobody has to poll for each. Raises RuntimeError if that
        takes DRAIN_S.
        """


def latencies(client: Client, jobs: int) -> tuple[list[float], list[float]]:
    """Milliseconds from before submit to its answer, and to the success that polling saw."""
    submits, dones = [], []
    for _ in range(jobs):
        start = time.perf_counter()
        job_id = client.submit()
        submits.append((time.perf_counter() - start) * 1000)
        client.wait(job_id)
        dones.append((time.perf_counter() - start) * 1000)
    return submits, dones


def burst(system: System, jobs: int) -> float:
    """Jobs per second of draining a burst that waits."""
    system.hold()
    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [system.client() for _ in range(CLIENTS)]
        submitted = threads.map(
            lambda client: [client.submit() for _ in range(jobs // CLIENTS)], clients
        )
        ids = [job_id for batch in submitted for job_id in batch]
    return len(ids) / system.drain(ids)
