"""The interface of a system that the pipeline benchmark measures, and how it measures one.

Latencies are measured with one client at a time. A burst is a number of jobs that four clients
submit while the workers are held back; its rate counts only the time to drain them.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from scripts.benchmarks.client import Client

CLIENTS = 4
WARM_UP_JOBS = 20  # to fill caches, prepared statements and connections
DRAIN_S = 120.0


class System(Protocol):
    """A running service with a queue and two workers."""

    def client(self) -> Client:
        """A new connection."""

    def hold(self) -> None:
        """From now on, accept jobs but let them wait."""

    def drain(self, ids: list[str]) -> float:
        """Release the waiting jobs. Returns the seconds until the last one was done.

        By the system's own clock, so that no job needs polling. Raises RuntimeError after DRAIN_S.
        """


def latencies(client: Client, jobs: int) -> tuple[list[float], list[float]]:
    """Milliseconds from submit to its response, and to the success as seen by polling."""
    submits, dones = [], []
    for _ in range(jobs):
        start = time.perf_counter()
        job_id = client.submit()
        submits.append((time.perf_counter() - start) * 1000)
        client.wait(job_id)
        dones.append((time.perf_counter() - start) * 1000)
    return submits, dones


def burst(system: System, jobs: int) -> float:
    """Jobs per second while a waiting burst drains."""
    system.hold()
    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [system.client() for _ in range(CLIENTS)]
        submitted = threads.map(
            lambda client: [client.submit() for _ in range(jobs // CLIENTS)], clients
        )
        ids = [job_id for batch in submitted for job_id in batch]
    return len(ids) / system.drain(ids)
