"""Hours of steady load: whether anything is lost, grows, or gets slower.

Everything is as in `load.py`, at a rate that the service carries easily. Growth compares the
median of a process's memory in the second tenth of the run with that in the last, so that caches
which fill at the start do not count.

    scripts/bench soak --minutes 120 --rate 5 --json soak.json
"""

import statistics
import sys
import threading
import time
from collections import defaultdict

import numpy as np
import psycopg
import redis

from scripts.benchmarks.figures import Figure
from scripts.benchmarks.load import DISPATCHERS, DRAIN_S, REGIONS, WORKERS
from scripts.benchmarks.load_clients import arrivals, percentile, submit_all
from scripts.benchmarks.processes import rss_mb
from scripts.stack import Stack

MINUTES = 120.0
RATE = 5.0  # jobs/s
LOOK_S = 15.0
PROCESSES = ("api", *DISPATCHERS, *WORKERS, "cpu", "cpu:eu-west")
# By the first part of the name; the largest growth of each counts.
KINDS = ("api", "dispatcher", "gpu", "cpu")
ENDS = """
    SELECT count(*) FILTER (WHERE finished_at IS NULL), count(*) FILTER (WHERE state = 'succeeded')
    FROM jobs
"""


class Watch:
    """Memory of every process and keys of every Valkey, every LOOK_S; a context manager."""

    def __init__(self, stack: Stack):
        self._stack = stack
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.rss_mb: dict[str, list[float]] = defaultdict(list)
        self.keys: list[int] = []

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def growth_mb(self, kind: str) -> float:
        names = [name for name in self.rss_mb if name.split(":")[0] == kind]
        return max(_growth(self.rss_mb[name]) for name in names)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            for name in PROCESSES:
                self.rss_mb[name].append(rss_mb(self._stack.pid(name)))
            self.keys.append(sum(_keys(url) for url in self._urls()))

    def _urls(self) -> set[str]:
        return {self._stack.env["REDIS_URL"], *self._stack.services.redis_urls.values()}


def run(
    *, quick: bool = False, minutes: float | None = None, rate: float | None = None
) -> list[Figure]:
    duration_s = 60 * (minutes if minutes is not None else 3.0 if quick else MINUTES)
    with Stack(
        regions=REGIONS,
        processes=PROCESSES,
        valkeys=True,
        env={"MODEL_PROFILE": "noop", "SERVED_PROFILES": "noop"},
    ) as stack:
        rng = np.random.default_rng(12)
        times = arrivals(None, rate or RATE, duration_s, rng)
        homes = rng.choice(REGIONS, len(times)).tolist()
        key = stack.api_key()
        with Watch(stack) as watch:
            _, submits = submit_all(stack.url, key, times, homes)
        unfinished, succeeded = _settled(stack.env["DATABASE_URL"])
        logs = sum(path.stat().st_size for path in stack.data.logs.glob("*.log"))
    accepted = sum(each.job_id is not None for each in submits)
    quarter = duration_s / 4
    first = [each.latency_ms for each in submits if each.due_s < quarter]
    last = [each.latency_ms for each in submits if each.due_s >= duration_s - quarter]
    print(f"{len(submits)} jobs, {logs / 2**20:.0f} MB of logs", file=sys.stderr)
    return [
        Figure("jobs", len(submits)),
        Figure("refused", len(submits) - accepted, at_most=0),
        Figure("unfinished", unfinished, at_most=0),
        Figure("not_succeeded", accepted - succeeded, at_most=0),
        Figure("submit_p99_first_quarter_ms", percentile(np.array(first), 0.99)),
        Figure("submit_p99_last_quarter_ms", percentile(np.array(last), 0.99)),
        *(Figure(f"rss_growth_mb_{kind}", watch.growth_mb(kind)) for kind in KINDS),
        Figure("redis_keys_growth", _growth(watch.keys)),
    ]


def _growth(values: list[float] | list[int]) -> float:
    tenth = max(1, len(values) // 10)
    return statistics.median(values[-tenth:]) - statistics.median(values[tenth : 2 * tenth])


def _keys(url: str) -> int:
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        return int(client.dbsize())


def _settled(database_url: str) -> tuple[int, int]:
    """(jobs that have not ended DRAIN_S after the last submit, jobs that succeeded)."""
    deadline = time.monotonic() + DRAIN_S
    with psycopg.connect(database_url, autocommit=True, connect_timeout=10) as connection:
        while True:
            row = connection.execute(ENDS).fetchone()
            assert row is not None
            if row[0] == 0 or time.monotonic() > deadline:
                return row
            time.sleep(0.5)
