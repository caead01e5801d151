"""The real stack under open-loop load, and how fast dispatchers place jobs.

Everything is real (gunicorn with its picture process, Postgres with fsync, two regions with a
Valkey each, two dispatchers, Celery workers) except the render, which takes no time. Jobs of 60 kB
fall due at random or at a trace's times, half in each region, and latencies count from then
(`load_clients.py`). The rate rises in steps to the *knee*: the highest rate at which p99 of submit
is <= 100 ms and >= 99.9 % of the jobs are accepted and succeed within 10 s (`load_knee.py`).
`load_watch.py` measures what limits the service there.

    scripts/bench load --json load.json --trace AzureLLMInferenceTrace_conv.csv.gz

Writes a report and plots to docs/load.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from rich.console import Console
from rich.table import Table

from app.config.settings import Settings
from app.planning import traces
from app.planning.traces import Rates, Requests
from scripts.benchmarks import load_placements, load_plots
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.load_clients import arrivals, percentile, submit_all
from scripts.benchmarks.load_knee import FIRST_RATE, climb, knee
from scripts.benchmarks.load_placements import Placements
from scripts.benchmarks.load_step import SUBMIT_P99_MS, SUCCESS, Step
from scripts.benchmarks.load_watch import Watch
from scripts.stack import Stack

REGIONS = ("us-east", "eu-west")
DISPATCHERS = ("dispatcher", "dispatcher:eu-west")
WORKERS = tuple(f"gpu:{region}:{n}" for region in REGIONS for n in (1, 2))
DONE_S = 10.0
FACTOR = 1.5
REFINEMENTS = 2  # halvings of the last step, which narrow the knee down to 11 %
DRAIN_S = 60.0
# The stages of an accepted job, by the database's clock.
STAGES = {
    "place": ("created_at", "placed_at"),
    "begin": ("placed_at", "started_at"),
    "run": ("started_at", "finished_at"),
}
OUTCOMES = f"""
    SELECT id::text, state, extract(epoch FROM finished_at)::float8,
        {", ".join(f"extract(epoch FROM {b} - {a})::float8" for a, b in STAGES.values())}
    FROM jobs WHERE id = ANY(%s::uuid[])
"""


class Load:
    """Runs steps of load on one stack."""

    def __init__(self, stack: Stack, trace: Requests | Rates | None, duration_s: float):
        self._stack = stack
        self._key = stack.api_key()
        self._trace = trace
        self._duration_s = duration_s
        self._rng = np.random.default_rng(7)

    def step(self, rate: float, duration_s: float | None = None) -> Step:
        """Hold one rate, then wait for every job to end."""
        duration_s = duration_s or self._duration_s
        times = arrivals(self._trace, rate, duration_s, self._rng)
        homes = self._rng.choice(REGIONS, len(times)).tolist()
        with Watch(self._stack, len(WORKERS)) as watch:
            began_at, submits = submit_all(self._stack.url, self._key, times, homes)
        accepted = {each.job_id: each for each in submits if each.job_id is not None}
        done_ms, stages = [], []
        for job_id, state, finished_at, *parts in self._outcomes(list(accepted)):
            took_s = (finished_at or np.inf) - began_at - accepted[job_id].due_s
            if state == "succeeded" and took_s <= DONE_S:
                done_ms.append(took_s * 1000)
                stages.append(parts)
        columns = np.array(stages).reshape(-1, len(STAGES)).T * 1000
        step = Step(
            rate=len(times) / duration_s,
            submit_ms=np.array([each.latency_ms for each in submits]),
            done_ms=np.array(done_ms),
            sent_late_ms=percentile(
                np.array([(each.sent_s - each.due_s) * 1000 for each in submits]), 0.99
            ),
            success=len(done_ms) / max(1, len(times)),
            stages_ms={
                name: percentile(column, 0.99) for name, column in zip(STAGES, columns, strict=True)
            },
            use=watch.use,
        )
        print(f"{step.rate:.1f} jobs/s: {step.use.bottleneck()}", file=sys.stderr, flush=True)
        return step

    def _outcomes(self, ids: list[str]) -> list[tuple[Any, ...]]:
        url = self._stack.env["DATABASE_URL"]
        deadline = time.monotonic() + DRAIN_S
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            while True:
                rows = connection.execute(OUTCOMES, (ids,)).fetchall()
                if all(row[2] for row in rows) or time.monotonic() > deadline:
                    return rows
                time.sleep(0.2)


def run(
    *, quick: bool = False, plots: Path | None = None, trace: Path | None = None
) -> list[Figure]:
    """Measure every figure of the table; write the report and its plots to `plots`, if given."""
    replayed = traces.read(trace) if trace is not None else None
    load_before = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(
            Path(directory),
            regions=REGIONS,
            processes=("api", *DISPATCHERS, *WORKERS, "cpu", "cpu:eu-west"),
            valkeys=True,
            env={"MODEL_PROFILE": "noop", "SERVED_PROFILES": "noop"},
        ) as stack,
    ):
        load = Load(stack, replayed, 5.0 if quick else 30.0)
        load.step(FIRST_RATE, 3.0)  # warms caches, prepared statements, connections
        steps = climb(load.step, 2.5 if quick else FACTOR, 0 if quick else REFINEMENTS)
        for name in stack.processes:
            if name not in DISPATCHERS:
                stack.stop(name)
        settings = Settings.model_validate(
            {name.lower(): value for name, value in stack.env.items()}
        )
        placed = load_placements.measure(
            stack, settings, 2_000 if quick else 20_000, claim_rounds=1_000 if quick else 5_000
        )
    best = knee(steps)
    shown = best or steps[0]
    source = trace.name if trace is not None else "Poisson arrivals"
    lines = [*_verdict(steps, best), "", *_placing(placed)]
    Console().print(_table(steps), *lines, sep="\n", markup=False)
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
        load_plots.draw_all(plots, steps, best, placed)
        (plots / "report.md").write_text(_report(steps, lines, source, load_before))
    return [
        Figure("placements_per_s", placed.per_s, at_least=300),
        Figure("claim_p50_ms", percentile(placed.claims_ms, 0.5), at_most=1),
        Figure("knee_jobs_per_s", best.rate if best else 0.0),
        Figure("knee_submit_p99_ms", shown.submit_p99_ms, at_most=SUBMIT_P99_MS),
        Figure("knee_success", shown.success, at_least=SUCCESS),
    ]


def _verdict(steps: list[Step], best: Step | None) -> list[str]:
    """Where the knee is, and the bottleneck at the next step."""
    found = f"Knee: {best.rate:.1f} jobs/s." if best else "No rate passed."
    beyond = [step for step in steps if best is None or step.rate > best.rate]
    if not beyond:
        return [found, "Every rate passed, so the limit is unknown."]
    missed = beyond[0]
    slowest = max(missed.stages_ms, key=lambda name: missed.stages_ms[name])
    return [
        f"{found} At {missed.rate:.1f} jobs/s, p99 of submit is {missed.submit_p99_ms:.0f} ms"
        f" and {missed.success:.2%} of the jobs succeed.",
        f"Bottleneck there: {missed.use.bottleneck()}.",
        f"The slowest stage after acceptance is to {slowest}:"
        f" p99 {missed.stages_ms[slowest]:.0f} ms.",
    ]


def _placing(placed: Placements) -> list[str]:
    quantiles = (percentile(placed.claims_ms, q) for q in (0.5, 0.99))
    return [
        f"Placements by two dispatchers: {placed.per_s:.0f}/s."
        f" Meanwhile: {placed.use.bottleneck()}.",
        "A claim on a quiet Valkey: p50 {:.2f} ms, p99 {:.2f} ms.".format(*quantiles),
    ]


HEADINGS = (
    *("jobs/s", "submit p50", "submit p99", "done p50", "done p99", "sent late p99", "success"),
    *("cores", "bottleneck"),
)


def _rows(steps: list[Step]) -> list[tuple[str, ...]]:
    return [
        (
            f"{step.rate:.1f}",
            *(f"{percentile(step.submit_ms, q):.0f} ms" for q in (0.5, 0.99)),
            *(f"{percentile(step.done_ms, q):.0f} ms" for q in (0.5, 0.99)),
            f"{step.sent_late_ms:.0f} ms",
            f"{step.success:.2%}",
            f"{step.use.machine:.0%} of {step.use.cores}",
            step.use.bottleneck().split(":")[0],
        )
        for step in steps
    ]


def _table(steps: list[Step]) -> Table:
    table = Table(title="open-loop load; latencies from when a job was due")
    for heading in HEADINGS:
        table.add_column(heading)
    for row in _rows(steps):
        table.add_row(*row)
    return table


def _report(steps: list[Step], lines: list[str], source: str, load_before: float) -> str:
    rows = [HEADINGS, ("---",) * len(HEADINGS), *_rows(steps)]
    return "\n".join(
        [
            "# Load test",
            "",
            f"`scripts/bench load` on {os.cpu_count()} cores, load average {load_before:.1f} before"
            f" the run; {source}, two regions, two dispatchers, {len(WORKERS)} workers that render"
            ' nothing. Latencies count from when a job was due. "Cores" includes all processes.',
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            *lines,
            "",
            "![Latency and processors by rate](knee.png)",
            "",
            "![Placements](placements.png)",
            "",
        ]
    )
