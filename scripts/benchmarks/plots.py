"""The style of the benchmarks' plots: small PNGs, identical for identical figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

# Okabe and Ito's colour-blind-safe palette.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#777777"
STYLE: dict[Any, Any] = {  # matplotlib lists its keys in a Literal type of its own
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}


def new(*, columns: int) -> tuple[Picture, Sequence[Axes]]:
    """A row of empty plots."""
    plt.rcParams.update(STYLE)
    return plt.subplots(1, columns, figsize=(7.2, 2.8), layout="constrained")


def save(picture: Picture, path: Path) -> None:
    # Without software version and date, the same figures give the same file.
    picture.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(picture)
