"""The plots of `scripts/bench traffic`: small PNGs for the README."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from app.domain.routing.admission import Class, wait_bound
from app.domain.routing.capacity import ceiling, wait_quantile
from scripts.benchmarks import traffic_scenarios as scenarios
from scripts.benchmarks.plots import GREY, STYLE, save
from scripts.benchmarks.traffic_routings import Routing
from scripts.benchmarks.traffic_scenarios import SERVICE_S, Run

# Okabe and Ito's colour-blind-safe palette.
COLOURS = {
    "ours": "#0072B2",
    "polling + backoff": "#009E73",
    "polling": "#D55E00",
    "nearest only": "#CC79A7",
    "random global": "#999999",
}
WINDOW_S = 20.0


def draw_all(
    to: Path,
    geographies: Sequence[Routing],
    steady: Run,
    flooded: Run,
    burst: dict[str, Run],
    arms: dict[str, Run],
    orphaned: Run,
    replays: dict[str, Run],
) -> None:
    plt.rcParams.update(STYLE)
    save(_optimum(geographies), to / "optimum.png")
    save(_ceilings(steady), to / "ceilings.png")
    save(_overload(flooded), to / "overload.png")
    save(_burst(burst), to / "burst.png")
    save(_outage(arms), to / "outage.png")
    save(_controller_dead(orphaned), to / "controller_dead.png")
    if replays:
        save(_replay(replays), to / "replay.png")


def _optimum(geographies: Sequence[Routing]) -> Picture:
    picture, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")
    ratios = np.sort([g.rtt_ratio for g in geographies])
    left.plot(ratios, np.linspace(0, 1, len(ratios)), color=COLOURS["ours"], lw=2)
    left.axvline(1.0, color=GREY, ls=":", lw=1)
    left.set(
        title="Mean round trip / optimum",
        xlabel="ratio",
        ylabel="fraction of geographies",
        ylim=(0, 1.02),
    )
    times = np.sort([g.ms for g in geographies])
    right.plot(times, np.linspace(0, 1, len(times)), color=COLOURS["ours"], lw=2)
    right.set(
        title="Time for one table, 30 regions",
        xlabel="processor ms",
        xlim=(0, None),
        ylim=(0, 1.02),
    )
    return picture


def _ceilings(steady: Run) -> Picture:
    picture, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")
    sizes = np.unique(np.geomspace(8, 512, 40).astype(int))
    left.plot(sizes, [ceiling(int(c)) for c in sizes], color=COLOURS["ours"], lw=2, label="ours")
    left.axhline(0.8, color=GREY, ls=":", lw=1)
    left.text(512, 0.805, "a fixed 80 %", color=GREY, ha="right", va="bottom")
    left.set(xscale="log", title="Ceiling by pool size", xlabel="workers", ylabel="utilisation")
    left.set_xticks([8, 16, 32, 64, 128, 256, 512], [8, 16, 32, 64, 128, 256, 512])
    left.minorticks_off()
    gpus = [steady.scenario.gpus[name] for name in steady.record.regions]
    waits = [
        steady.record.wait_quantile(0.99, 60.0, home=home) / SERVICE_S for home in range(len(gpus))
    ]
    theory = [wait_quantile(int(c), ceiling(int(c)) * int(c), 1.0) for c in sizes if 16 <= c <= 256]
    right.plot(
        *([c for c in sizes if 16 <= c <= 256], theory),
        color=GREY,
        lw=1,
        ls=":",
        label="Erlang C, single pool",
    )
    right.scatter(
        gpus, waits, color=COLOURS["ours"], s=22, label="simulated, with overflow", zorder=3
    )
    right.axhline(0.5, color=COLOURS["polling"], lw=1)
    right.text(256, 0.49, "target", color=COLOURS["polling"], ha="right", va="top")
    right.set(
        xscale="log",
        title="p99 wait at the ceiling",
        xlabel="workers",
        ylabel="service times",
        ylim=(0, 0.55),
    )
    right.set_xticks([16, 32, 64, 128, 256], [16, 32, 64, 128, 256])
    right.minorticks_off()
    right.legend(loc="upper left", bbox_to_anchor=(0.0, 0.9))
    return picture


def _overload(flooded: Run) -> Picture:
    picture, axes = plt.subplots(figsize=(4.8, 2.8), layout="constrained")
    waits = np.sort([wait for at, wait, _ in flooded.record.waits if at > 60.0])
    axes.plot(waits, np.linspace(0, 1, len(waits)), color=COLOURS["ours"], lw=2)
    bound_s = wait_bound(Class.INTERACTIVE, SERVICE_S)
    axes.axvline(bound_s, color=GREY, ls=":", lw=1)
    axes.text(bound_s, 0.05, " bound", color=GREY)
    axes.set(
        title="Waits at 1.3 times total capacity",
        xlabel="seconds",
        ylabel="fraction of served jobs",
        ylim=(0, 1.02),
    )
    return picture


def _burst(burst: dict[str, Run]) -> Picture:
    picture, axes = plt.subplots(figsize=(7.2, 2.8), layout="constrained")
    axes.axvspan(
        scenarios.BURST_AT_S,
        scenarios.BURST_AT_S + scenarios.BURST_S,
        color="#dddddd",
        lw=0,
        zorder=0,
    )
    axes.text(scenarios.BURST_AT_S + scenarios.BURST_S + 4, 1.06, "x3 for 20 s", color=GREY)
    for arm, run in burst.items():
        record = run.record
        ratio = record.rolling(record.served, record.users, WINDOW_S)[: round(record.duration_s)]
        axes.plot(np.minimum(ratio, 1.0), color=COLOURS[arm], lw=1.8, label=arm)
    axes.set(
        title="Users served / users arriving (200 GPUs, router 250/s, users resubmit)",
        xlabel="seconds",
        ylim=(0, 1.12),
        xlim=(20, None),
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return picture


def _outage(arms: dict[str, Run]) -> Picture:
    picture, rows = plt.subplots(3, 1, figsize=(7.2, 6.0), sharex=True, layout="constrained")
    for arm, run in arms.items():
        record = run.record
        end = round(record.duration_s) - 20
        served = record.rolling(record.tries_served, record.tries, WINDOW_S)[:end]
        home = record.rolling(record.at_home, record.served, WINDOW_S)[:end]
        dead = record.regions.index(run.scenario.outages[0].region)
        loads = np.delete(record.region_load(WINDOW_S), dead, axis=0)[:, :end].max(axis=0)
        for axes, line in zip(rows, (served, home, loads), strict=True):
            axes.plot(line, color=COLOURS[arm], lw=1.6, label=arm)
    for axes, title in zip(
        rows,
        (
            "Successful submissions",
            "Started in their home region",
            "Highest load of another region",
        ),
        strict=True,
    ):
        _shade_outage(axes)
        axes.set(title=title, ylim=(0, 1.05), xlim=(20, None))
    rows[2].set_xlabel("seconds; us-east is down in the grey area")
    handles, labels = rows[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=5)
    return picture


def _shade_outage(axes: Axes) -> None:
    axes.axvspan(scenarios.KILL_AT_S, scenarios.BACK_AT_S, color="#eeeeee", lw=0, zorder=0)


def _controller_dead(run: Run) -> Picture:
    picture, axes = plt.subplots(figsize=(7.2, 2.6), layout="constrained")
    record = run.record
    end = round(record.duration_s) - 10
    home = record.rolling(record.at_home, record.served, 30.0)[:end]
    axes.axvspan(
        *(scenarios.DEAD_FROM_S, scenarios.DEAD_FROM_S + scenarios.DEAD_S),
        color="#eeeeee",
        lw=0,
        zorder=0,
    )
    axes.text(scenarios.DEAD_FROM_S + 8, 0.82, "no controller", color=GREY)
    axes.plot(home, color=COLOURS["ours"], lw=1.8)
    axes.set(
        title="Started in their home region", xlabel="seconds", ylim=(0.8, 1.005), xlim=(30, None)
    )
    return picture


def _replay(replays: dict[str, Run]) -> Picture:
    picture, (top, bottom) = plt.subplots(
        2, 1, figsize=(7.2, 4.4), sharex=True, layout="constrained"
    )
    for arm, run in replays.items():
        record = run.record
        end = round(record.duration_s) - 20
        served = record.rolling(record.tries_served, record.tries, 30.0)[:end]
        top.plot(served, color=COLOURS[arm], lw=1.5, label=arm)
    record = next(iter(replays.values())).record
    bottom.plot(record.rolling(record.users, np.ones_like(record.users), 10.0), color=GREY, lw=1.2)
    top.set(title="Successful submissions", ylim=(0, 1.05), xlim=(30, None))
    bottom.set(title="Users arriving per second", xlabel="seconds", ylim=(0, None))
    handles, labels = top.get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=5)
    return picture
