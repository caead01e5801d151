"""The API at twice the rate that it can take: what it still accepts, how soon, and its memory.

The knee comes from `--knee`, or from a short ramp of `scripts/bench load`. The service then gets
the knee's rate for a while and twice that rate for `--minutes`, in an open loop. All the while
20,000 jobs wait for a model that no worker serves. Everything else is as in `load.py`.

    scripts/bench overload --minutes 5 --knee 40 --json overload.json
"""

import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from app.config.settings import Settings
from app.store.session import Store
from scripts.benchmarks.fault_clients import Api
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.load import DISPATCHERS, REGIONS, WORKERS, Load
from scripts.benchmarks.load_clients import CONNECTIONS, arrivals, percentile
from scripts.benchmarks.load_knee import FIRST_RATE, climb, knee
from scripts.benchmarks.load_placements import insert_waiting
from scripts.benchmarks.processes import rss_mb
from scripts.stack import Stack, StackError

MINUTES = 5.0
FACTOR = 2.0
KNEE_S = 30.0  # at the knee, before the overload
WARM_S = 10.0  # from then on memory is compared
RAMP_S = 5.0
WAITING, QUICK_WAITING = 20_000, 1_000
UNSERVED = "motion-small-teacher"


@dataclass(frozen=True)
class Held:
    """One rate, held for a while."""

    accepted_per_s: float
    p99_ms: float  # of accepted submits, from the moment they were due
    shed: int  # refused with 429 or 503 and a Retry-After
    broken: int  # any other answer, or none
    rss_growth_mb: float  # of the API, from WARM_S to the end


def run(
    *, quick: bool = False, minutes: float | None = None, knee_rate: float | None = None
) -> list[Figure]:
    duration_s = 60 * (minutes if minutes is not None else 0.5 if quick else MINUTES)
    with Stack(
        regions=REGIONS,
        processes=("api", *DISPATCHERS, *WORKERS, "cpu", "cpu:eu-west"),
        valkeys=True,
        env={"MODEL_PROFILE": "noop", "SERVED_PROFILES": f"noop,{UNSERVED}"},
    ) as stack:
        load = Load(stack, None, RAMP_S)
        load.step(FIRST_RATE, 3.0)  # warms caches and connections
        _wait_in_line(stack, QUICK_WAITING if quick else WAITING)
        rate = knee_rate or _ramp(load)
        at_knee = hold(stack, rate, 10.0 if quick else KNEE_S)
        _say(f"knee, {rate:.1f} jobs/s: {at_knee}")
        beyond = hold(stack, FACTOR * rate, duration_s)
        _say(f"{FACTOR:g} x the knee: {beyond}")
    return [
        Figure("goodput_ratio", beyond.accepted_per_s / at_knee.accepted_per_s, at_least=0.95),
        Figure("p99_ratio", beyond.p99_ms / at_knee.p99_ms, at_most=3.0),
        Figure("shed", beyond.shed, note=f"{beyond.broken} without a Retry-After or an answer"),
        Figure("rss_growth_mb", beyond.rss_growth_mb),
    ]


def hold(stack: Stack, rate: float, duration_s: float) -> Held:
    """Submit at a rate in an open loop: every job when it is due, by the first free connection."""
    rng = np.random.default_rng(11)
    times = arrivals(None, rate, duration_s, rng)
    homes = rng.choice(REGIONS, len(times)).tolist()
    latencies: list[float] = []
    answers = {"shed": 0, "broken": 0}
    numbers = iter(range(len(times)))
    taking = threading.Lock()
    key, began = stack.api_key(), time.perf_counter()

    def work() -> None:
        api = Api(stack.url, key)
        while True:
            with taking:
                n = next(numbers, None)
            if n is None:
                return
            time.sleep(max(0.0, times[n] - (time.perf_counter() - began)))
            status, retry_after = api.offer(region=homes[n])
            took_ms = (time.perf_counter() - began - times[n]) * 1000
            with taking:
                if status == 202:
                    latencies.append(took_ms)
                elif status in (429, 503) and retry_after:
                    answers["shed"] += 1
                else:
                    answers["broken"] += 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    time.sleep(min(WARM_S, duration_s / 2))
    before_mb = rss_mb(stack.pid("api"))
    for thread in threads:
        thread.join()
    elapsed_s = time.perf_counter() - began
    return Held(
        accepted_per_s=len(latencies) / elapsed_s,
        p99_ms=percentile(np.array(latencies), 0.99),
        rss_growth_mb=rss_mb(stack.pid("api")) - before_mb,
        **answers,
    )


def _wait_in_line(stack: Stack, count: int) -> None:
    settings = Settings.model_construct(database_url=stack.env["DATABASE_URL"])
    with closing(Store(settings.sqlalchemy_url, pool_size=1)) as store:
        for _ in insert_waiting(store, islice(cycle(REGIONS), count), UNSERVED):
            pass


def _ramp(load: Load) -> float:
    found = knee(climb(load.step, 2.0, 1))
    if found is None:
        raise StackError("No rate passed, so there is no knee; name one with --knee.")
    return found.rate


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
