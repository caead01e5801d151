"""Plots of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from workers.training.phrases import CAMERA, OBJECT

# What an arm's name begins with, its colour and marker.
FAMILIES = {
    "teacher": ("#7a5195", "o"),
    "student": ("#ef5675", "s"),
    "undistilled": ("#8a8a8a", "^"),
}


def curve(results: Mapping[str, Any], path: Path) -> None:
    """Adherence and end-point error against the passes a clip costs, by family."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    scenes = min(result.scenes for result in results.values())
    for family, (colour, marker) in FAMILIES.items():
        # The same scenes for every point, and only what is sampled as it would be served.
        rows = sorted(
            (result.arm.passes, result.measured.hit[:scenes], result.measured.error_px[:scenes])
            for name, result in results.items()
            if name.startswith(family) and "," not in name.removesuffix(", DPM-Solver++")
            if not (family == "teacher" and not result.arm.sampling.guided)
        )
        passes = [row[0] for row in rows]
        style = {"color": colour, "marker": marker, "label": family}
        axes[0].plot(passes, [100 * row[1].mean() for row in rows], **style)
        axes[1].plot(passes, [row[2].mean() for row in rows], **style)
    axes[0].set(ylabel="adherence, %", ylim=(0, 100))
    axes[1].set(ylabel="end-point error, px of 512", ylim=(0, None))
    for ax in axes:
        ax.set(xlabel="denoiser passes per clip", xscale="log")
        ax.set_xticks([1, 4, 8, 32, 45, 96], ["1", "4", "8", "32", "45", "96"])
        ax.minorticks_off()
        ax.grid(alpha=0.25)
    axes[1].legend()
    figure.suptitle(f"motion-small, {scenes} unseen scenes")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def confusion(pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]], path: Path) -> None:
    """Which motion was found where which was asked for: cameras, and objects."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for ax, part, names in ((axes[0], 0, list(CAMERA)), (axes[1], 1, list(OBJECT))):
        counts = np.zeros((len(names), len(names)))
        for found, asked in pairs:
            counts[names.index(asked[part]), names.index(found[part])] += 1
        shares = counts / counts.sum(1, keepdims=True).clip(min=1)
        ax.imshow(shares, cmap="Purples", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                shade = "white" if share > 0.5 else "black"
                ax.text(column, row, f"{share:.0%}", ha="center", va="center", color=shade, size=7)
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
        ax.set_yticks(range(len(names)), names)
        ax.set(xlabel="nearest", ylabel="asked", title=("camera", "object")[part])
    figure.savefig(path, dpi=110)
    plt.close(figure)
