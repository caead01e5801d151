"""The job pipeline without a model, next to a bare Celery loop on the same broker.

Everything is real (gunicorn, Postgres with fsync, Valkey with its log, two dispatchers, two workers
with task events on) except the render, which returns a fixed clip at once. Latencies are measured
with one client at a time, throughput with four. "Done" is as seen by a client that polls every 2 ms
after submit. A burst is 500 jobs that are waiting when the dispatchers start; its rate is from the
first placement to the last finish, by the database's clock.

With peers, each round measures them as well. Only one system runs at a time, because even an idle
one uses the processors.
"""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import psycopg
import redis
from celery import Celery

from scripts.benchmarks import jobs_api
from scripts.benchmarks.client import PHOTO, Client
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.job_cpu import JobCpu
from scripts.benchmarks.peers.comparison import Comparison
from scripts.benchmarks.processes import peak_rss_mb, rss_mb
from scripts.benchmarks.systems import (
    CLIENTS,
    DRAIN_S,
    WARM_UP_JOBS,
    System,
    burst,
    latencies,
)
from scripts.stack.data import ROOT
from scripts.stack.stack import Stack

WORKERS = ("gpu:us-east", "gpu:us-east:2")
DISPATCHERS = ("dispatcher", "dispatcher:2")
DURABILITY = "picture in storage and row in Postgres, both flushed before the response"


class Ours:
    """The stack as a system to measure."""

    def __init__(self, stack: Stack):
        self._stack = stack
        self._key = stack.api_key()
        self.cpu = JobCpu(stack, WORKERS, DISPATCHERS)

    def client(self) -> Client:
        return Client(self._stack.url, self._key)

    def hold(self) -> None:
        for name in DISPATCHERS:
            self._stack.stop(name)
        self.cpu.submit_begins()

    def drain(self, ids: list[str]) -> float:
        """Seconds from the first placement; the dispatchers are still starting before it."""
        self.cpu.submit_ended(len(ids))
        return self.cpu.drain(len(ids), lambda: self._drain(ids))

    def _drain(self, ids: list[str]) -> float:
        for name in DISPATCHERS:
            self._stack.start(name)
        query = """
            SELECT count(finished_at), extract(epoch FROM max(finished_at) - min(placed_at))
            FROM jobs WHERE id = ANY(%s::uuid[])
        """
        with psycopg.connect(self._stack.env["DATABASE_URL"], autocommit=True) as connection:
            deadline = time.monotonic() + DRAIN_S
            while True:
                [(finished, seconds)] = connection.execute(query, (ids,)).fetchall()
                if finished == len(ids):
                    return float(seconds)
                if time.monotonic() > deadline:
                    raise RuntimeError(f"only {finished} of {len(ids)} jobs finished")
                time.sleep(0.2)


def closed_loop(system: System, jobs: int) -> float:
    """Jobs per second with CLIENTS clients, each of which submits when its last job is done."""

    def work(_: int) -> None:
        latencies(system.client(), jobs // CLIENTS)

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(work, range(CLIENTS)))
    return jobs / (time.perf_counter() - start)


@contextmanager
def stopped(stack: Stack) -> Iterator[None]:
    """Stop the stack's processes for the block; Postgres and Valkey keep running."""
    for name in stack.processes:
        stack.stop(name)
    yield
    for name in stack.processes:
        stack.start(name, wait=False)
    stack.wait_ready(*stack.processes)


def bare_celery_burst(stack: Stack, tasks: int) -> float:
    """No-op tasks per second on the same broker; same pool, acknowledgement, prefetch and events.

    Measured from the start of the first worker, on a full queue, to the last acknowledgement.
    """
    env = {**stack.env, "BARE_BROKER": stack.env["REDIS_URL"].rsplit("/", 1)[0] + "/7"}
    bare = [sys.executable, "-m", "scripts.benchmarks.bare_celery"]
    client = redis.Redis.from_url(env["BARE_BROKER"], socket_timeout=5)
    client.flushdb()
    workers = [
        subprocess.Popen(
            [*bare, f"worker-{n}"],
            env=env,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for n in range(len(WORKERS))
    ]
    try:
        control = Celery("bare", broker=env["BARE_BROKER"]).control
        wait_for(lambda: len(control.ping(timeout=0.5)) == len(workers), 60)
        subprocess.run([*bare, "publish", str(tasks)], env=env, cwd=ROOT, check=True, timeout=120)
        # The workers are warm and the queue is empty: measure a second burst.
        wait_for(lambda: idle(client), 60)
        for process in workers:
            process.send_signal(signal.SIGSTOP)
        subprocess.run([*bare, "publish", str(tasks)], env=env, cwd=ROOT, check=True, timeout=120)
        start = time.perf_counter()
        for process in workers:
            process.send_signal(signal.SIGCONT)
        wait_for(lambda: idle(client), 60)
        return tasks / (time.perf_counter() - start)
    finally:
        for process in workers:
            process.kill()
            process.wait()
        client.flushdb()


def idle(client: redis.Redis) -> bool:
    return client.llen("bare") == 0 and client.hlen("unacked") == 0


def wait_for(check: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise RuntimeError("the bare Celery loop took too long")
        time.sleep(0.005)


def demo_seconds() -> float:
    """Seconds of `scripts/demo` in an installed environment, from nothing running to the clip."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # if we are root, Postgres runs as nobody and must reach it
        start = time.perf_counter()
        subprocess.run(
            [
                *(ROOT / "scripts/demo", PHOTO, "a gentle breeze"),
                *("--data", f"{directory}/data", "-o", f"{directory}/clip.mp4"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=600,
        )
        return time.perf_counter() - start


def model_worker_rss() -> float:
    """Peak memory in MB of a worker with the model, after a 512 px clip of the default length."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(Path(directory), processes=("api", "dispatcher", "gpu:us-east")) as stack,
    ):
        client = Client(stack.url, stack.api_key())
        client.wait(client.submit())
        return peak_rss_mb(stack.pid("gpu:us-east"))


def run(*, quick: bool = False, peers: bool = False) -> list[Figure]:
    jobs, burst_jobs, repeats = (40, 100, 1) if quick else (200, 500, 3)
    loops, bursts, bares = [], [], []
    submits: list[float] = []
    dones: list[float] = []
    comparison = Comparison() if peers else None
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(
            Path(directory),
            regions=("us-east",),
            processes=("api", *DISPATCHERS, *WORKERS, "cpu", "flower"),
            env={"MODEL_PROFILE": "noop", "SERVED_PROFILES": "noop"},
        ) as stack,
    ):
        ours = Ours(stack)
        for _ in range(repeats):
            client = ours.client()
            latencies(client, WARM_UP_JOBS)

            def trickle(client: Client = client) -> None:
                some_submits, some_dones = latencies(client, jobs)
                submits.extend(some_submits)
                dones.extend(some_dones)

            ours.cpu.trickle(jobs, trickle)
            loops.append(closed_loop(ours, jobs))
            bursts.append(burst(ours, burst_jobs))
            bares.append(bare_celery_burst(stack, burst_jobs))
            api_rss = rss_mb(stack.pid("api"))
            if comparison:
                with stopped(stack):
                    comparison.turn(stack, jobs, burst_jobs)
    done_p50, burst_rate = median(dones), median(bursts)
    figures = [
        Figure("submit_p50_ms", median(submits), at_most=12),
        Figure("done_p50_ms", done_p50, at_most=30, note=DURABILITY if peers else ""),
        Figure("done_p95_ms", quantiles(dones, n=20)[-1]),
        Figure("closed_loop_jobs_per_s", median(loops), at_least=60),
        Figure("burst_jobs_per_s", burst_rate, at_least=100),
        Figure("bare_celery_burst_jobs_per_s", median(bares)),
        *ours.cpu.figures(),
        Figure("worker_rss_mb", model_worker_rss(), at_most=1200),
        Figure("api_rss_mb", api_rss, at_most=250),
        Figure("demo_s", demo_seconds(), at_most=60),
    ]
    if comparison:
        figures += comparison.figures(done_p50, burst_rate)
        figures += jobs_api.run(quick=quick)
    return figures
