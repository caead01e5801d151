"""A large database: 2 million finished jobs, statistics from before the rush, 20,000 waiting.

The store's own statements on a Postgres of its own, one client. Latencies are medians unless their
names say otherwise, and include the commit. A full run takes more than 13 minutes
on two idle cores, most of them under the open snapshot.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import randbits
from statistics import median, quantiles
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg
from prometheus_client import generate_latest
from sqlalchemy import Connection

from app import cluster_figures, telemetry
from app.config.settings import Settings
from app.dispatcher.control.cluster import ClusterCounter
from app.domain.job.state import uuid7
from app.store import keys
from app.store.job import attempts, fair, floors, jobs, lists, placing
from app.store.job.jobs import NewJob
from app.store.job.lists import Filter
from app.store.job.placing import Offer
from app.store.reports import usage
from app.store.session import Store
from scripts.benchmarks import scale_rows
from scripts.benchmarks.figures import Figure
from scripts.stack import Services
from scripts.stack.data import ROOT
from scripts.stack.programs import POSTGRES

ROWS, QUICK_ROWS = 2_000_000, 100_000
WAITING = 20_000
SHARED_BUFFERS = "1GB"  # what a server of a few GB is given
JOBS, SNAPSHOT_JOBS = 300, 20_000
BATCH = 64
REPEATS = 5
LEASE = "0123456789abcdef"
STEPS = ("submit", "place", "begin", "renew", "finish")

Times = dict[str, list[float]]  # step -> seconds, one for each job


def run(*, quick: bool = False) -> list[Figure]:
    """All figures, also printed one by one."""
    return printed(measured(*((QUICK_ROWS, 50, 1000) if quick else (ROWS, JOBS, SNAPSHOT_JOBS))))


def printed(results: Iterator[Figure | str]) -> list[Figure]:
    """The figures. Prints everything to stderr as soon as it is known: a run takes minutes."""
    figures, start = [], time.monotonic()
    for each in results:
        line = each if isinstance(each, str) else f"{each.name} = {each.value:.4g}"
        print(f"{time.monotonic() - start:4.0f} s: {line}", file=sys.stderr, flush=True)
        if isinstance(each, Figure):
            figures.append(each)
    return figures


def measured(rows: int, lives: int, snapshot_jobs: int) -> Iterator[Figure | str]:
    """The figures, and between them what takes long."""
    own = Services(environ={}, shared_buffers=SHARED_BUFFERS)
    with own as services, tempfile.TemporaryDirectory() as directory:
        url = services.env["DATABASE_URL"]
        migrate(url)
        with opened(url) as store:
            owner, tombstones = new_owner(store), new_owner(store)
            live(store, owner, 20)  # a warm-up
            empty = live(store, owner, lives)
            yield f"adding {rows:,} finished jobs and {rows // 4:,} deleted ones"
            with psycopg.connect(url, autocommit=True) as conn, scale_rows.bulk(conn):
                scale_rows.add_finished(conn, owner, rows)
                scale_rows.add_finished(conn, tombstones, rows // 4, purged=True)
            yield Figure("rows", rows)
            yield Figure("usage_catch_up_s", catch_up(store))
            yield "gathering statistics"
            with psycopg.connect(url, autocommit=True) as conn:
                scale_rows.let_statistics_age(conn, owner)
                scale_rows.add_waiting(conn, owner, WAITING)
            yield from latencies(empty, live(store, owner, lives))
            yield f"running {snapshot_jobs:,} jobs under an open snapshot"
            with snapshot(url):
                begun = churn(store, owner, snapshot_jobs)
            yield Figure("begin_snapshot_p95_ms", p95(begun[-1000:]) * 1000, at_most=3)
            catch_up(store)
            yield Figure("list_rare_ms", list_ms(store, owner, {"campaign": "spring"}), at_most=50)
            yield Figure("list_tombstones_ms", list_ms(store, tombstones, {}), at_most=50)
            yield Figure("usage_30d_ms", usage_ms(store, owner), at_most=100)
            yield Figure("metrics_scrape_ms", scrape_ms(store, url), at_most=50)
            yield "dumping and restoring"
            yield from restore(url, Path(directory), POSTGRES.find(services.data))


def latencies(empty: Times, full: Times) -> Iterator[Figure]:
    """Each step on the full tables, and how many times as long as on the empty ones it took."""
    for step in STEPS:
        known = "place_ms" if step == "place" else f"{step}_p50_ms"
        yield Figure(known, median(full[step]) * 1000)
    for step in STEPS:
        yield Figure(f"{step}_ratio", median(full[step]) / median(empty[step]), at_most=1.3)


# --- filling --------------------------------------------------------------------------------------


def migrate(url: str) -> None:
    """Raises CalledProcessError."""
    subprocess.run(
        [sys.executable, "-m", "stillmotion.cli", "migrate"],
        env=os.environ | {"DATABASE_URL": url},
        cwd=ROOT,
        check=True,
        capture_output=True,
    )


@contextmanager
def opened(url: str) -> Iterator[Store]:
    config = Settings.model_construct(database_url=url)
    with closing(Store(config.sqlalchemy_url, pool_size=4, timeout_s=60.0)) as store:
        yield store


def new_owner(store: Store) -> UUID:
    with store.begin() as tx:
        return keys.create(tx, "scale")[0]


def catch_up(store: Store) -> float:
    """Add all ended jobs up; returns the seconds it took."""
    start = time.perf_counter()
    more = True
    while more:
        with store.begin() as tx:
            more = usage.roll_up(tx)
    return time.perf_counter() - start


# --- jobs' lives ----------------------------------------------------------------------------------


def live(store: Store, owner: UUID, count: int) -> Times:
    """Submit jobs, and run as many from the head of the queue: one after the other."""
    times: Times = defaultdict(list)

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        times[step].append(time.perf_counter() - start)

    for n in range(count):
        with timed("submit"), store.begin() as tx:
            submit(tx, owner)
        with timed("place"), store.begin() as tx:
            [(job_id, fence)] = place(tx, [f"t{n}"])
        with timed("begin"), store.autocommit() as conn:
            begin(conn, job_id, fence)
        with timed("renew"), store.autocommit() as conn:
            attempts.renew(conn, job_id, fence, step=1, lease_token=LEASE)
        with timed("finish"), store.autocommit() as conn:
            finish(conn, job_id, fence)
    return times


def churn(store: Store, owner: UUID, count: int) -> list[float]:
    """Run jobs through their lives in batches; returns the seconds of each begin."""
    begun = []
    with store.autocommit() as conn:
        conn.exec_driver_sql("SET synchronous_commit = off")
        for first in range(0, count, BATCH):
            floors.move(conn, ["noop"], ["us-east"])  # the dispatchers do; twice in four seconds
            for _ in range(BATCH):
                submit(conn, owner)
            for job_id, fence in place(conn, [f"t{first + n}" for n in range(BATCH)]):
                start = time.perf_counter()
                begin(conn, job_id, fence)
                begun.append(time.perf_counter() - start)
                finish(conn, job_id, fence)
        conn.exec_driver_sql("RESET synchronous_commit")
    return begun


def submit(tx: Connection, owner: UUID) -> None:
    stamp = fair.stamp(tx, owner, profile="noop", region="us-east", priority=1, cost=1.0)
    jobs.add(
        tx,
        NewJob(
            id=uuid7(time.time_ns() // 1_000_000, randbits(74)),
            owner_id=owner,
            profile="noop",
            prompt="The waves roll in.",
            seed=1,
            frames=48,
            fps=24,
            size=512,
            steps=8,
            input_key="inputs/any.jpg",
            home_region="us-east",
            policy="ring",
            max_queue_s=86_400.0,
            vstart=stamp.vstart,
            labels={"shop": "main"},
        ),
    )


def place(tx: Connection, tokens: list[str]) -> list[tuple[UUID, int]]:
    """Place the jobs that come first, one for each token: (job, fence)."""
    waiting = placing.peek(tx, "noop", ["us-east"], open_regions=["us-east"], limit=BATCH)
    offers = [Offer(job.job_id) for job in waiting]
    return [(row.job_id, row.fence) for row in placing.place(tx, "us-east", offers, tokens)]


def begin(conn: Connection, job_id: UUID, fence: int) -> None:
    begun = attempts.begin(
        conn,
        job_id,
        fence,
        worker="gpu-us-east-1a2b3c4d@host",
        attempt_limit_s=600.0,
        lease_token=LEASE,
        region="us-east",
        model_version="1",
    )
    assert begun is not None


def finish(conn: Connection, job_id: UUID, fence: int) -> None:
    key = f"outputs/{job_id}/{fence}-{LEASE}.mp4"
    assert attempts.finish(conn, job_id, fence, key, 400_000, lease_token=LEASE)


@contextmanager
def snapshot(url: str) -> Iterator[None]:
    """A reader that keeps every row version from now on alive, as pg_dump does."""
    with psycopg.connect(url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT FROM jobs LIMIT 1")
        yield


# --- readers --------------------------------------------------------------------------------------


def list_ms(store: Store, owner: UUID, labels: dict[str, str]) -> float:
    def work() -> None:
        with store.autocommit() as conn:
            lists.page(conn, owner, limit=20, only=Filter(labels=labels))

    return median_ms(work)


def usage_ms(store: Store, owner: UUID) -> float:
    before = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    before += timedelta(days=1)

    def work() -> None:
        with store.begin() as tx:
            usage.by_day(tx, owner, since=before - timedelta(days=30), before=before)

    return median_ms(work)


def scrape_ms(store: Store, url: str) -> float:
    """Count the deployment's figures anew, and render the dispatcher's page."""
    config = Settings.model_construct(database_url=url)
    counter = ClusterCounter(config, store, cluster_figures.cluster, leads=lambda: True)

    def work() -> None:
        counter.tick()
        generate_latest(telemetry.DISPATCHER)

    return median_ms(work)


def restore(url: str, directory: Path, postgres: Path) -> Iterator[Figure]:
    """pg_dump, and pg_restore into another database, two jobs at a time."""
    dump, parts = directory / "dump", urlsplit(url)
    tools = {name: str(postgres.with_name(name)) for name in ("pg_dump", "pg_restore")}
    start = time.perf_counter()
    subprocess.run([tools["pg_dump"], "-Fc", "-f", dump, "-d", url], check=True)
    yield Figure("dump_s", time.perf_counter() - start)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE DATABASE restored")
    target = urlunsplit(parts._replace(path="/restored"))
    start = time.perf_counter()
    subprocess.run([tools["pg_restore"], "-j2", "-d", target, dump], check=True)
    yield Figure("restore_s", time.perf_counter() - start)


def median_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times) * 1000


def p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20)[-1]
