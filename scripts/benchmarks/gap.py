"""How long a GPU waits between two renders while jobs wait for it, and for what.

The whole stack is real, with two workers and two dispatchers. The noop profile holds the GPU's
thread for 300 or 50 ms in five steps. Objects are in a directory, or in an S3 server
whose every call takes 40 ms longer. 120 to 300 jobs wait when the dispatchers go on. Each case
prints its row as it ends, with the cores that the whole machine kept busy: storage, database and
benchmark share them with what is measured.

A gap runs from the end of one render to the start of the next in the same worker. Both follow from
the begin in the job's row and the times that the worker measured for its stages. What happens in
between is read off Redis, which shows every command with its time to a MONITOR.
"""

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

import boto3
import psycopg

from scripts.benchmarks.client import Client
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.gap_trace import Trace
from scripts.benchmarks.harness import swift_server
from scripts.benchmarks.pipeline import DISPATCHERS, WORKERS
from scripts.benchmarks.systems import CLIENTS
from scripts.stack.errors import StackError
from scripts.stack.stack import Stack

STEPS = 5
CALL_S = 0.04  # that the object storage takes longer for each call
WARM_UP_JOBS, QUICK_WARM_UP_JOBS, TRACED_JOBS = 20, 8, 40
DRAIN_S = 300.0
LAST = 2  # renders of each worker that are left out at the end, where no job waits any more
BUCKET = "clips"


@dataclass(frozen=True)
class Span:
    """One render, in Unix seconds, and the stages of its attempt in seconds."""

    worker: str
    job_id: str
    token: str  # of the claim
    start: float
    end: float
    stages: dict[str, float]


@contextlib.contextmanager
def storage_s3() -> Iterator[dict[str, str]]:
    """The environment for an S3 server whose calls take CALL_S longer."""
    try:
        with swift_server.swift_server(delay_s=CALL_S) as server:
            env = {
                "AWS_ACCESS_KEY_ID": swift_server.ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": swift_server.SECRET_KEY,
                "AWS_CONFIG_FILE": os.devnull,
            }
            boto3.client(
                "s3",
                endpoint_url=server.endpoint_url,
                region_name="us-east-1",
                aws_access_key_id=swift_server.ACCESS_KEY,
                aws_secret_access_key=swift_server.SECRET_KEY,
            ).create_bucket(Bucket=BUCKET)
            yield env | {
                "OBJECTS_URL": f"s3://{BUCKET}",
                "S3_ENDPOINT_URL": server.endpoint_url,
            }
    except ImportError as error:
        raise StackError(f"The S3 server, swift, is not installed: {error}.") from error


@contextlib.contextmanager
def storage_local() -> Iterator[dict[str, str]]:
    """The environment for the stack's own directory of objects."""
    yield {}


@dataclass(frozen=True)
class Case:
    """A storage and the length of a render; as many jobs as it takes for the share to be stable."""

    storage: str  # a key of STORAGES
    render_s: float
    jobs: int
    quick_jobs: int  # 0: left out
    at_most: float | None = None  # of the time without a render
    workers: int = len(WORKERS)

    @property
    def name(self) -> str:
        alone = "_one_worker" if self.workers == 1 else ""
        return f"{self.storage}_{self.render_s * 1000:.0f}ms{alone}"


STORAGES = {"s3": storage_s3, "local": storage_local}
CASES = (
    Case("s3", 0.3, jobs=120, quick_jobs=32, at_most=0.03),
    Case("s3", 0.05, jobs=200, quick_jobs=60, at_most=0.10),
    Case("s3", 0.05, jobs=100, quick_jobs=0, workers=1),  # half the load on the machine
    Case("local", 0.3, jobs=120, quick_jobs=32),
    Case("local", 0.05, jobs=300, quick_jobs=0),
)


def run(*, quick: bool = False) -> list[Figure]:
    cases = [case for case in CASES if case.quick_jobs or not quick]
    measured: dict[str, list[Span]] = {}
    parts: dict[str, float] = {}
    with waiting_stack() as stack:
        for storage, enter in STORAGES.items():
            with enter() as env:
                stack.stop("api")
                stack.start("api", env=env, wait=False)
                for case in (case for case in cases if case.storage == storage):
                    env["NOOP_STEP_S"] = str(case.render_s / STEPS)
                    start_workers(stack, env, case.workers)
                    # For caches, connections, and what the workers learn.
                    drained(stack, QUICK_WARM_UP_JOBS if quick else WARM_UP_JOBS)
                    jobs = case.quick_jobs if quick else case.jobs
                    measured[case.name], cores = drained(stack, jobs)
                    say(case.name, measured[case.name], cores)
                    if case == CASES[0] and not quick:
                        with Trace(stack.env["REDIS_URL"]) as trace:
                            traced, _ = drained(stack, TRACED_JOBS)
                        parts = trace.parts(traced)
    spans = measured[CASES[0].name]
    gaps = [gap * 1000 for gap in gaps_of(spans)]
    waits = [span.stages.get("wait", 0.0) * 1000 for span in spans]
    figures = [
        *(
            Figure(f"gpu_idle_share_{case.name}", idle_share(measured[case.name]), case.at_most)
            for case in cases
        ),
        Figure("gap_p50_ms", median(gaps)),
        Figure("gap_p95_ms", quantiles(gaps, n=20)[-1]),
        # What a job waits for the render before it, once it has been taken.
        Figure("wait_for_gpu_p50_ms", median(waits)),
        Figure("wait_for_gpu_p95_ms", quantiles(waits, n=20)[-1]),
    ]
    return figures + [Figure(f"part_{name}_ms", value * 1000) for name, value in parts.items()]


def cores_busy_s() -> float:
    """Seconds that all cores were busy since the machine started. See proc_stat(5)."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, _idle, _iowait, *interrupts = map(int, line.split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def say(name: str, spans: list[Span], cores: float) -> None:
    """Print a case's row as soon as it is known."""
    gaps = [gap * 1000 for gap in gaps_of(spans)]
    print(
        f"{name:<18} idle {idle_share(spans):6.1%}  gap p50 {median(gaps):6.1f} ms"
        f"  p95 {quantiles(gaps, n=20)[-1]:6.1f} ms  {len(spans)} jobs,"
        f" {cores:.2f} of {os.cpu_count()} cores busy",
        flush=True,
    )


@contextlib.contextmanager
def waiting_stack() -> Iterator[Stack]:
    """Everything but the workers, which differ from case to case."""
    common = {"MODEL_PROFILE": "noop", "SERVED_PROFILES": "noop", "MODEL_STEPS": str(STEPS)}
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(
            Path(directory), regions=("us-east",), processes=("api", *DISPATCHERS), env=common
        ) as stack,
    ):
        yield stack


def start_workers(stack: Stack, env: dict[str, str], count: int) -> None:
    """Start `count` workers with this environment, in place of those that run."""
    for number, worker in enumerate(WORKERS):
        with contextlib.suppress(KeyError):  # none runs yet
            if number < count:
                stack.kill(worker)  # nothing runs in it, and a graceful end would take seconds
            stack.stop(worker)
    for worker in WORKERS[:count]:
        stack.start(worker, env=env, wait=False)
    stack.wait_ready("api", *WORKERS[:count])


def drained(stack: Stack, jobs: int) -> tuple[list[Span], float]:
    """Let this many jobs wait, then release them all.

    Returns their renders, and how many cores the machine kept busy meanwhile.
    """
    key = stack.api_key()

    def submit(count: int) -> list[str]:
        client = Client(stack.url, key)
        return [client.submit() for _ in range(count)]

    for name in DISPATCHERS:
        stack.kill(name, signal.SIGSTOP)
    with ThreadPoolExecutor(CLIENTS) as threads:
        batches = list(threads.map(submit, [jobs // CLIENTS] * CLIENTS))
    began, busy_s = time.monotonic(), cores_busy_s()
    for name in DISPATCHERS:
        stack.kill(name, signal.SIGCONT)
    ids = [job_id for batch in batches for job_id in batch]
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
        wait_until_finished(connection, ids)
        cores = (cores_busy_s() - busy_s) / (time.monotonic() - began)
        return renders_of(connection, ids), cores


def wait_until_finished(connection: psycopg.Connection, ids: list[str]) -> None:
    deadline = time.monotonic() + DRAIN_S
    query = "SELECT count(finished_at) FROM jobs WHERE id = ANY(%s::uuid[])"
    while connection.execute(query, (ids,)).fetchall() != [(len(ids),)]:
        if time.monotonic() > deadline:
            raise StackError(f"The jobs did not finish within {DRAIN_S:.0f} s.")
        time.sleep(0.25)


def renders_of(connection: psycopg.Connection, ids: list[str]) -> list[Span]:
    """The successful attempts of these jobs, by worker and time."""
    rows = connection.execute(
        """
        SELECT worker, job_id::text, token, extract(epoch FROM begun_at)::float8, timings
        FROM attempts
        WHERE job_id = ANY(%s::uuid[]) AND outcome = 'succeeded'
        """,
        (ids,),
    ).fetchall()
    spans = []
    for worker, job_id, token, begun, timings in rows:
        start = begun + sum(timings.get(stage, 0.0) for stage in ("fetch", "prepare", "wait"))
        spans.append(Span(worker, job_id, token, start, start + timings["render"], timings))
    return sorted(spans, key=lambda span: (span.worker, span.start))


def backlogged(spans: list[Span]) -> Iterator[list[Span]]:
    """For each worker its renders, without the last, before which nothing waited."""
    for worker in sorted({span.worker for span in spans}):
        own = [span for span in spans if span.worker == worker]
        yield own[:-LAST]


def gaps_of(spans: list[Span]) -> list[float]:
    """Seconds between consecutive renders of one worker. The begin's own jitter is in them."""
    return [
        max(0.0, later.start - earlier.end)
        for own in backlogged(spans)
        for earlier, later in pairwise(own)
    ]


def idle_share(spans: list[Span]) -> float:
    """The share of the time from the first render to the last in which no render ran."""
    window = sum(own[-1].end - own[0].start for own in backlogged(spans))
    rendered = sum(span.end - span.start for own in backlogged(spans) for span in own)
    return max(0.0, 1.0 - rendered / window)
