"""What everyone else notices of an attack: latencies of another tenant, and the API's memory."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import numpy as np

from scripts.benchmarks.client import Client
from scripts.benchmarks.load_clients import percentile
from scripts.benchmarks.processes import rss_mb

PATIENCE_S = 30.0  # of a probe or a submit; the one that waits longer counts as this long
SAMPLE_S = 0.05


def p99_ms(call: Callable[[], None], *, per_s: float, duration_s: float) -> float:
    """The 99th percentile of a call's time in an open loop: each starts when it is due.

    A call that fails counts as PATIENCE_S.
    """
    took: list[float] = []
    began = time.perf_counter()

    def one(due: float) -> None:
        try:
            call()
            took.append(time.perf_counter() - began - due)
        except (OSError, RuntimeError, http.client.HTTPException):
            took.append(PATIENCE_S)

    threads = []
    for n in range(max(1, int(per_s * duration_s))):
        due = n / per_s
        time.sleep(max(0.0, began + due - time.perf_counter()))
        threads.append(threading.Thread(target=one, args=(due,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
    took += [PATIENCE_S] * (len(threads) - len(took))
    return 1000 * percentile(np.array(took), 0.99)


def probe_p99_ms(url: str, per_s: float, duration_s: float) -> float:
    """As p99_ms, of /healthz. Runs in a process of its own, away from the attack's threads."""
    return p99_ms(probe(url), per_s=per_s, duration_s=duration_s)


def probe(url: str) -> Callable[[], None]:
    """A call of /healthz on a connection of its own, as load balancers make it."""
    netloc = urlsplit(url).netloc

    def call() -> None:
        connection = http.client.HTTPConnection(netloc, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            if connection.getresponse().status != 200:
                raise RuntimeError("/healthz")

    return call


def submit(url: str, key: str) -> Callable[[], None]:
    """A submit of the photo, on a connection of its own."""
    return lambda: _submit(url, key)


def _submit(url: str, key: str) -> None:
    Client(url, key, timeout_s=PATIENCE_S).submit(frames="8")


@contextlib.contextmanager
def peak_rss(pid: int) -> Iterator[Callable[[], float]]:
    """Sample the memory of a process and its children; the yielded call returns the peak in MB."""
    peak = rss_mb(pid)
    ended = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.wait(SAMPLE_S):
            peak = max(peak, rss_mb(pid))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield lambda: peak
    finally:
        ended.set()
        thread.join()
