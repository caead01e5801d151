"""The job API as a client sees it: prediction error, event lag, and how soon a canceled job's GPU
is free. All processes are real; the noop profile's render just waits.
"""

import http.client
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

import psycopg

from scripts.benchmarks.client import Client
from scripts.benchmarks.figures import Figure
from scripts.stack.stack import Stack

WORKERS = ("gpu:us-east", "gpu:us-east:2")
STEPS = 8
STEP_S = 0.15  # per step of the noop profile, so a job takes 1.2 s
LOAD = 0.8
STREAMS = 200


def stack(directory: str) -> Stack:
    """Two workers in one region."""
    return Stack(
        Path(directory),
        regions=("us-east",),
        processes=("api", "dispatcher", *WORKERS),
        env={
            "MODEL_PROFILE": "noop",
            "SERVED_PROFILES": "noop",
            "MODEL_STEPS": str(STEPS),
            "NOOP_STEP_S": str(STEP_S),
        },
    )


def eta_error_median(running: Stack, key: str, jobs: int) -> float:
    """Median of |predicted - actual| / actual time over Poisson arrivals at LOAD.

    The first jobs are left out: without past renders the service cannot predict anything.
    """
    draw = random.Random(7)
    client = Client(running.url, key)
    for _ in range(4):
        client.wait(client.submit())
    service_s = _query(
        running,
        "SELECT avg(extract(epoch FROM finished_at - started_at)) FROM jobs"
        " WHERE state = 'succeeded'",
    )[0][0]
    rate = LOAD * len(WORKERS) / float(service_s)
    ids, due = [], time.monotonic()
    for _ in range(jobs):
        due += draw.expovariate(rate)
        time.sleep(max(0.0, due - time.monotonic()))
        ids.append(client.submit())
    for job_id in ids:
        client.wait(job_id)
    rows = _query(
        running,
        "SELECT predicted_s, extract(epoch FROM finished_at - created_at) FROM jobs"
        " WHERE id = ANY(%s::uuid[])",
        ids,
    )
    return median(abs(float(predicted) - float(took)) / float(took) for predicted, took in rows)


def sse_lag_p95_ms(running: Stack, key: str, streams: int) -> float:
    """Lag from a worker's step to its event at `streams` clients of one API process.

    They all follow the jobs of two busy workers, so each step goes to half of them at once.
    """
    client = Client(running.url, key)
    ids = [client.submit() for _ in range(2 * len(WORKERS))]
    lags: list[float] = []
    threads = [
        threading.Thread(target=_follow, args=(running.url, key, ids[n % len(ids)], lags))
        for n in range(streams)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return quantiles(lags, n=20)[-1] * 1000


def cancel_to_free_ms(running: Stack, key: str, jobs: int) -> float:
    """Median time from the cancel request to the end of the attempt, when the worker is idle again.

    The target is one denoising step, because a cancel waits for the current step to end.
    """
    client = Client(running.url, key)
    took = []
    for _ in range(jobs):
        job_id = client.submit()
        _until_step(client, job_id, 2)
        asked = time.time()
        client.request("POST", f"/v1/jobs/{job_id}/cancel")
        while not (job := client.request("GET", f"/v1/jobs/{job_id}"))["terminal"]:
            time.sleep(0.005)
        ended = datetime.fromisoformat(job["finished_at"]).timestamp()
        took.append((ended - asked) * 1000)
    return median(took)


def _until_step(client: Client, job_id: str, step: int) -> None:
    while client.request("GET", f"/v1/jobs/{job_id}")["progress"]["step"] < step:
        time.sleep(0.005)


def _follow(url: str, key: str, job_id: str, lags: list[float]) -> None:
    """Record the lag of every progress event of a job."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    connection.request(
        "GET", f"/v1/jobs/{job_id}/events", headers={"Authorization": f"Bearer {key}"}
    )
    for name, data in _events(connection.getresponse()):
        if name == "progress":
            lags.append(time.time() - datetime.fromisoformat(data["at"]).timestamp())


def _events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in answer:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def _query(running: Stack, query: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(running.env["DATABASE_URL"], autocommit=True) as connection:
        return connection.execute(query, values).fetchall()


def run(*, quick: bool = False) -> list[Figure]:
    with tempfile.TemporaryDirectory() as directory, stack(directory) as running:
        key = running.api_key()
        return [
            Figure(
                "eta_error_median",
                eta_error_median(running, key, 30 if quick else 150),
                at_most=0.2,
            ),
            Figure(
                "sse_lag_p95_ms",
                sse_lag_p95_ms(running, key, 40 if quick else STREAMS),
                at_most=300,
            ),
            Figure(
                "cancel_to_free_ms",
                cancel_to_free_ms(running, key, 5 if quick else 20),
                at_most=STEP_S * 1000,
            ),
        ]
