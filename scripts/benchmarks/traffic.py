"""Traffic management against theory and against the alternatives, by simulation.

Everything runs the domain's own functions. `table_ms_30_regions` is processor time, so other work
on the machine does not count; the simulations do not depend on real time at all. A *try* is one
submission; it succeeds if a worker takes it within 20 s.

    scripts/bench traffic --json traffic.json --trace AzureLLMInferenceTrace_code.csv.gz
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from rich.console import Console
from rich.table import Table

from app.domain.routing.admission import Class, wait_bound
from app.domain.routing.damping import PERIOD_S, next_table, smooth
from app.domain.routing.load import Load
from app.domain.routing.table import TableRefused, check_invariants
from app.domain.routing.topology import Topology
from app.planning.geography import random_world
from scripts.benchmarks import traffic_plots
from scripts.benchmarks import traffic_scenarios as scenarios
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.loads import routing_problems
from scripts.benchmarks.traffic_routings import routings
from scripts.benchmarks.traffic_scenarios import ARMS, SERVICE_S, Run

RECOVERED, GOODPUT_WINDOW_S = 0.99, 30.0
LOAD_WINDOW_S = 30.0
WARM_UP_S = 60.0


def invariant_violations(cases: int) -> int:
    """Number of undamped tables for arbitrary loads and topologies that break an invariant."""
    broken = 0

    @settings(
        max_examples=cases,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(routing_problems())
    def check(problem: tuple[Topology, Load]) -> None:
        nonlocal broken
        topology, load = problem
        try:
            check_invariants(next_table(None, load, topology, 0.0), load, topology, exact=True)
        except TableRefused:
            broken += 1

    check()
    return broken


def table_changes_per_h(cycles: int, seeds: int) -> float:
    """Table changes under steady demand with only Poisson noise, after ten minutes."""
    settle = round(600.0 / PERIOD_S)
    changes = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        topology, load = random_world(30, rng, load=0.9375, skew=0.5)
        demand: dict[str, float] = {}
        table = None
        for cycle in range(settle + cycles):
            sample = {
                name: rng.poisson(region.demand * PERIOD_S) / PERIOD_S
                for name, region in load.regions.items()
            }
            demand = smooth(demand, sample, PERIOD_S)
            seen = Load({n: replace(r, demand=demand[n]) for n, r in load.regions.items()})
            following = next_table(table, seen, topology, cycle * PERIOD_S)
            check_invariants(following, seen, topology, previous=table)
            changes += cycle >= settle and following.changed
            table = following
    return changes * 3600.0 / (seeds * cycles * PERIOD_S)


def recovery_s(run: Run) -> float:
    """Seconds from the burst's end until goodput is back at 99 %, or else to the end of the run."""
    goodput = run.record.goodput(GOODPUT_WINDOW_S)
    end = round(scenarios.BURST_AT_S + scenarios.BURST_S)
    rest = round(run.scenario.duration_s) - end
    last = run.record.served[-round(60.0) :].sum() / run.record.users[-round(60.0) :].sum()
    good = np.flatnonzero(goodput[end : end + rest] >= RECOVERED)
    return float(good[0]) if len(good) and last >= RECOVERED - 0.02 else float(rest)


def end_goodput(run: Run) -> float:
    """Tries served over users who arrived, in the last two minutes."""
    duration_s = run.scenario.duration_s
    part = slice(round(duration_s - 120.0), round(duration_s))
    return float(run.record.served[part].sum() / run.record.users[part].sum())


def most_loaded(run: Run) -> float:
    """The highest 30 s load of any surviving region during the outage."""
    loads = run.record.region_load(LOAD_WINDOW_S)
    dead = run.record.regions.index(run.scenario.outages[0].region)
    others = np.delete(loads, dead, axis=0)
    return float(np.nanmax(others[:, round(scenarios.KILL_AT_S) : round(scenarios.BACK_AT_S)]))


def mean_load(run: Run) -> float:
    """The highest mean load of any surviving region, from 30 s into the outage to its end."""
    record = run.record
    part = slice(round(scenarios.KILL_AT_S + 30.0), round(scenarios.BACK_AT_S))
    loads = record.busy_s[:, part].sum(axis=1) / np.maximum(record.ready_s[:, part].sum(axis=1), 1)
    return float(loads.max())


def arm_figures(runs: dict[str, Run], prefix: str) -> Iterator[Figure]:
    for arm, run in runs.items():
        name = f"{prefix}_{arm.replace(' + ', '_').replace(' ', '_')}"
        record = run.record
        yield Figure(f"{name}_success", record.success(WARM_UP_S, run.scenario.duration_s - 30))
        yield Figure(f"{name}_in_region", record.in_region(WARM_UP_S))
        yield Figure(f"{name}_wait_p50_s", record.wait_quantile(0.5, WARM_UP_S))
        yield Figure(f"{name}_wait_p99_s", record.wait_quantile(0.99, WARM_UP_S))
        yield Figure(f"{name}_attempts_per_job", record.attempts_per_job(WARM_UP_S))
        yield Figure(f"{name}_utilisation", record.utilisation(WARM_UP_S))


def show_arms(runs: dict[str, Run], title: str) -> None:
    table = Table(title=title)
    for heading in ("arm", "success", "in region", "p50 wait s", "p99 wait s", "attempts", "load"):
        table.add_column(heading)
    for arm, run in runs.items():
        values = [figure.value for figure in arm_figures({arm: run}, "")]
        table.add_row(arm, *(f"{value:.3f}" for value in values))
    Console().print(table)


def run(
    *, quick: bool = False, plots: Path | None = None, trace: Path | None = None
) -> list[Figure]:
    """Compute every figure of the table; write plots to `plots`, if given."""
    geographies = routings(20 if quick else 100)
    violations = invariant_violations(300 if quick else 10_000)
    changes = table_changes_per_h(60 if quick else 180, 1 if quick else 3)

    start = time.thread_time()
    steady = scenarios.run(scenarios.at_ceiling(120.0 if quick else 600.0))
    jobs_per_s = len(steady.scenario.arrivals) / (time.thread_time() - start)
    flooded = scenarios.run(scenarios.overload(120.0 if quick else 300.0))
    burst = {
        arm: scenarios.run(scenarios.burst_of_resubmitters(480.0), arm)
        for arm in ("ours", "polling + backoff", "polling")
    }
    killed = scenarios.run(scenarios.outage(450.0, scale=0.5 if quick else 2.0))
    orphaned = scenarios.run(scenarios.controller_dead())
    arms = {arm: scenarios.run(scenarios.outage(450.0, scale=0.5), arm) for arm in ARMS}
    replays = (
        {arm: scenarios.run(scenarios.replay(trace, 300.0), arm) for arm in ARMS} if trace else {}
    )
    show_arms(arms, "a region dies (N+1 fleet at its peak)")
    if replays:
        show_arms(replays, f"replay of {trace.name} at a mean load of 0.8" if trace else "")
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
        traffic_plots.draw_all(plots, geographies, steady, flooded, burst, arms, orphaned, replays)

    rtts = [g.rtt_ratio for g in geographies]
    calm = steady.record
    end_s = steady.scenario.duration_s - 30.0  # later tries may be served after the end
    pools = range(len(calm.regions))
    p99 = max(calm.wait_quantile(0.99, WARM_UP_S, end_s, home) for home in pools)
    bound_s = wait_bound(Class.INTERACTIVE, SERVICE_S)
    flood_end_s = flooded.scenario.duration_s - 30.0
    alive_s, dead_end_s = scenarios.DEAD_FROM_S, scenarios.DEAD_FROM_S + scenarios.DEAD_S
    loss = orphaned.record.in_region(WARM_UP_S, alive_s) - orphaned.record.in_region(
        alive_s, dead_end_s
    )
    return [
        Figure("in_region_gap_points", max(g.gap_points for g in geographies), at_most=0.1),
        Figure("rtt_ratio_mean", float(np.mean(rtts)), at_most=1.10),
        Figure("rtt_ratio_p95", float(np.quantile(rtts, 0.95)), at_most=1.25),
        Figure("over_ceiling_regions", sum(g.over for g in geographies), at_most=0),
        Figure("table_ms_30_regions", max(g.ms for g in geographies), at_most=30),
        Figure("table_invariant_violations", violations, at_most=0),
        Figure("table_changes_per_h", changes, at_most=60),
        Figure("ceiling_success", calm.success(WARM_UP_S, end_s), at_least=0.999),
        Figure("ceiling_attempts_per_job", calm.attempts_per_job(WARM_UP_S, end_s), at_most=1.05),
        Figure("ceiling_p99_wait_service_times", p99 / SERVICE_S, at_most=0.5),
        Figure(
            "overload_success",
            flooded.record.success(WARM_UP_S, flood_end_s),
            at_least=1 / 1.3 - 0.01,
        ),
        Figure(
            "overload_p99_wait_excess_s",
            flooded.record.wait_quantile(0.99, WARM_UP_S, flood_end_s) - bound_s,
            at_most=0.3,
        ),
        Figure("burst_recovery_s", recovery_s(burst["ours"]), at_most=60),
        Figure("burst_goodput", end_goodput(burst["ours"]), at_least=0.99),
        Figure("burst_polling_goodput", end_goodput(burst["polling"]), at_most=0.5),
        Figure("outage_max_load", most_loaded(killed), at_most=0.97),
        Figure("outage_mean_load", mean_load(killed)),
        Figure(
            "outage_success",
            killed.record.success(scenarios.KILL_AT_S + 30.0, scenarios.BACK_AT_S),
            at_least=0.99,
        ),
        Figure("controller_dead_loss_points", 100.0 * loss, at_most=5),
        Figure(
            "controller_dead_failures", orphaned.record.failures(alive_s, dead_end_s), at_most=0
        ),
        Figure("simulated_jobs_per_cpu_s", jobs_per_s, at_least=100_000 / 60),
        *arm_figures(arms, "outage"),
        *arm_figures(replays, "replay"),
    ]
