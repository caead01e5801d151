"""Open-loop load: jobs are submitted when they are due, regardless of earlier ones.

Latency counts from when a job was *due*, not when it was sent. Otherwise a stalled server would
receive fewer requests while it stalls, and the stall would look short (coordinated omission).
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException

import numpy as np
from numpy.typing import NDArray

from app.planning.arrivals import Times, poisson, replayed, stepped
from app.planning.traces import Rates, Requests
from scripts.benchmarks.client import Client

CONNECTIONS = 64  # if all are in use, the next job is sent late, and the delay counts
SUBMIT_S = 10.0  # a client's patience


@dataclass(frozen=True)
class Submit:
    """One job: times in seconds after the step's start, and its id if it was accepted."""

    due_s: float
    sent_s: float
    answered_s: float
    job_id: str | None

    @property
    def latency_ms(self) -> float:
        return (self.answered_s - self.due_s) * 1000


def arrivals(
    trace: Requests | Rates | None, rate: float, duration_s: float, rng: np.random.Generator
) -> Times:
    """Due times at a mean of `rate` jobs/s, from the trace or, without one, Poisson.

    Requests are replayed at their own speed, from the part of the trace whose rate is nearest to
    the trace's mean. Rates (slots of minutes over a day) are compressed into `duration_s`.
    """
    if trace is None:
        return poisson(rate, duration_s, rng)
    if isinstance(trace, Rates):
        rates = trace.total / trace.total.mean() * rate
        return stepped(rates, duration_s / len(rates), duration_s, rng)
    times, span = trace.times, float(trace.times[-1])
    # Start at an arrival, so that the interval has at least one.
    starts = times[: max(1, np.searchsorted(times, span - duration_s, side="right"))]
    counts = np.searchsorted(times, starts + duration_s) - np.searchsorted(times, starts)
    start = starts[np.argmin(np.abs(counts - trace.mean_rate * duration_s))]
    return replayed(np.sort((times - start) % span), rate, duration_s, rng)


def submit_all(
    url: str, key: str, times: Times, homes: Sequence[str], *, connections: int = CONNECTIONS
) -> tuple[float, list[Submit]]:
    """Submit a job at each of `times` (seconds from now) with these home regions.

    Returns the Unix time from which the times count, and one entry per job.
    """
    results: list[Submit | None] = [None] * len(times)
    numbers = iter(range(len(times)))
    taking = threading.Lock()
    began_at, began = time.time(), time.perf_counter()

    def work() -> None:
        client = Client(url, key, timeout_s=SUBMIT_S)
        while True:
            with taking:
                n = next(numbers, None)
            if n is None:
                return
            # Threads take the jobs in order, so all earlier ones are sent or being sent.
            time.sleep(max(0.0, times[n] - (time.perf_counter() - began)))
            sent_s = time.perf_counter() - began
            try:
                job_id = client.submit(region=homes[n])
            except (RuntimeError, OSError, HTTPException):
                job_id = None
            results[n] = Submit(float(times[n]), sent_s, time.perf_counter() - began, job_id)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return began_at, [result for result in results if result is not None]


def percentile(values: NDArray[np.float64], q: float) -> float:
    """The smallest value not exceeded by a fraction `q` of them; infinity for no values."""
    if not len(values):
        return float("inf")
    return float(np.quantile(values, q, method="inverted_cdf"))
