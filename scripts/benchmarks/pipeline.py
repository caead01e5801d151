"""The job pipeline without a model, beside a bare Celery loop on the same broker.

What is real: gunicorn, Postgres with fsync, Valkey with its log, two dispatchers, two workers with
task events on. What is not: the render, which returns a fixed clip at once. Latencies are those of
one client at a time; throughput is that of four. "Done" is what a client sees that polls every
2 ms after submit. A burst is 500 jobs that wait when the dispatchers start; its rate comes from the
database's times, from the first placement to the last finish.
"""

import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles

import psycopg
import redis
from celery import Celery

from scripts.benchmarks.client import PHOTO, Client
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.processes import peak_rss_mb, rss_mb
from scripts.stack.data import ROOT
from scripts.stack.stack import Stack

WORKERS = ("gpu:us-east", "gpu:us-east:2")
DISPATCHERS = ("dispatcher", "dispatcher:2")
CLIENTS = 4


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


def closed_loop(stack: Stack, key: str, jobs: int) -> float:
    """Jobs per second with CLIENTS clients, each submitting when its last job is done."""

    def work(_: int) -> None:
        latencies(Client(stack.url, key), jobs // CLIENTS)

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(work, range(CLIENTS)))
    return jobs / (time.perf_counter() - start)


def burst(stack: Stack, key: str, jobs: int) -> float:
    """Jobs per second from the first placement to the last finish of a waiting burst."""
    for name in DISPATCHERS:
        stack.stop(name)
    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [Client(stack.url, key) for _ in range(CLIENTS)]
        submitted = threads.map(
            lambda client: [client.submit() for _ in range(jobs // CLIENTS)], clients
        )
        ids = [job_id for batch in submitted for job_id in batch]
    for name in DISPATCHERS:
        stack.start(name)
    query = """
        SELECT count(finished_at), extract(epoch FROM max(finished_at) - min(placed_at))
        FROM jobs WHERE id = ANY(%s::uuid[])
    """
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
        deadline = time.monotonic() + 120
        while True:
            finished, seconds = connection.execute(query, (ids,)).fetchone()
            if finished == len(ids):
                return len(ids) / float(seconds)
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {finished} of {len(ids)} jobs finished")
            time.sleep(0.2)


def bare_celery_burst(stack: Stack, tasks: int) -> float:
    """No-op tasks per second on the same broker: same pool, acknowledgement, prefetch and events.

    From the first worker's start on a full queue to the last acknowledgement.
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
        # Warm, and now empty: measure a second burst.
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


def wait_for(check, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise RuntimeError("the bare Celery loop did not get there in time")
        time.sleep(0.005)


def demo_seconds() -> float:
    """`scripts/demo` on an installed environment, from nothing running to the clip."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # root's Postgres runs as nobody and has to get there
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
    """Peak memory of a worker with the model, after a 512 px clip of the default length."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(Path(directory), processes=("api", "dispatcher", "gpu:us-east")) as stack,
    ):
        client = Client(stack.url, stack.api_key())
        client.wait(client.submit())
        return peak_rss_mb(stack.pid("gpu:us-east"))


def run(*, quick: bool = False) -> list[Figure]:
    jobs, repeats = (40, 1) if quick else (200, 3)
    loops, bursts, bares, submits, dones = [], [], [], [], []
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(
            Path(directory),
            regions=("us-east",),
            processes=("api", *DISPATCHERS, *WORKERS, "cpu", "flower"),
            env={"MODEL_PROFILE": "noop", "SERVED_PROFILES": "noop"},
        ) as stack,
    ):
        key = stack.api_key()
        client = Client(stack.url, key)
        latencies(client, 20)  # warms caches, prepared statements, connections
        for _ in range(repeats):
            some_submits, some_dones = latencies(client, jobs)
            submits += some_submits
            dones += some_dones
            loops.append(closed_loop(stack, key, jobs))
            bursts.append(burst(stack, key, 100 if quick else 500))
            bares.append(bare_celery_burst(stack, 100 if quick else 500))
        api_rss = rss_mb(stack.pid("api"))
    return [
        Figure("submit_p50_ms", median(submits), at_most=12),
        Figure("done_p50_ms", median(dones), at_most=30),
        Figure("done_p95_ms", quantiles(dones, n=20)[-1]),
        Figure("closed_loop_jobs_per_s", median(loops), at_least=60),
        Figure("burst_jobs_per_s", median(bursts), at_least=100),
        Figure("bare_celery_burst_jobs_per_s", median(bares)),
        Figure("worker_rss_mb", model_worker_rss(), at_most=1200),
        Figure("api_rss_mb", api_rss, at_most=250),
        Figure("demo_s", demo_seconds(), at_most=60),
    ]
