"""The plots of `scripts/bench load`: small PNGs for the README."""

from pathlib import Path

import numpy as np

from scripts.benchmarks.load_clients import percentile
from scripts.benchmarks.load_placements import Placements
from scripts.benchmarks.load_step import Step
from scripts.benchmarks.plots import COLOURS, GREY, new, save

BANDS = 5  # processes drawn individually; the rest are combined


def draw_all(to: Path, steps: list[Step], knee: Step | None, placed: Placements) -> None:
    _knee(to / "knee.png", steps, knee)
    _placements(to / "placements.png", placed)


def _knee(path: Path, steps: list[Step], knee: Step | None) -> None:
    picture, (left, right) = new(columns=2)
    rates = [step.rate for step in steps]
    lines = (
        ("submit p99", [step.submit_p99_ms for step in steps], COLOURS[0], "-"),
        ("submit p50", [percentile(step.submit_ms, 0.5) for step in steps], COLOURS[0], "--"),
        ("done p99", [percentile(step.done_ms, 0.99) for step in steps], COLOURS[1], "-"),
        ("done p50", [percentile(step.done_ms, 0.5) for step in steps], COLOURS[1], "--"),
    )
    for label, values, colour, style in lines:
        left.plot(rates, values, style, color=colour, marker=".", label=label)
    left.axhline(100, color=GREY, lw=1, ls=":")
    left.set(title="Latency from due time", xlabel="jobs/s", ylabel="ms", yscale="log")
    left.legend(fontsize=7)

    names = sorted(
        {name for step in steps for name in step.use.families},
        key=lambda name: -max(step.use.families.get(name, 0.0) for step in steps),
    )
    bands = [[step.use.families.get(name, 0.0) for step in steps] for name in names]
    bands = [*bands[:BANDS], np.sum(bands[BANDS:], axis=0), [step.use.others for step in steps]]
    labels = [*names[:BANDS], "rest of the stack", "other processes"]
    right.stackplot(rates, bands, labels=labels, colors=[*COLOURS[:BANDS], "#bbbbbb", "#e5e5e5"])
    right.axhline(steps[0].use.cores, color=GREY, lw=1, ls=":")
    right.set(title="Cores in use", xlabel="jobs/s")
    right.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if knee is not None:
        for axes in (left, right):
            axes.axvline(knee.rate, color=GREY, lw=1)
    save(picture, path)


def _placements(path: Path, placed: Placements) -> None:
    picture, (left, right) = new(columns=2)
    left.bar(range(len(placed.by_second)), placed.by_second, color=COLOURS[0])
    left.axhline(300, color=GREY, lw=1, ls=":")
    left.set(title="Placements by two dispatchers", xlabel="s", ylabel="placements in that second")
    claims = np.sort(placed.claims_ms)
    right.plot(claims, np.linspace(0, 1, len(claims)), color=COLOURS[0], lw=2)
    right.axvline(1.0, color=GREY, lw=1, ls=":")
    right.set(
        title="Claim on an idle Valkey",
        xlabel="ms",
        ylabel="fraction of claims",
        xlim=(0, max(1.2, percentile(placed.claims_ms, 0.99))),
    )
    save(picture, path)
