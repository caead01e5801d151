"""Compiled packages at toy size: how fast a worker starts with them, and how much faster it is."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.config import profiles_file
from scripts.benchmarks.engines_clips import by_ours, spec_of
from scripts.benchmarks.engines_toys import SETTINGS, noise
from tests.support.toys import TOYS, Toy
from workers.engines.diffusers import packaging
from workers.engines.diffusers.table import read_table
from workers.engines.registry import load_engine

# Blocks that repeat, and a network that is compiled as a whole.
PACKAGED = {"wan22": ("transformer", "transformer_2"), "svd": ("unet",)}
TABLE_KEY = "first_frame"


@dataclass(frozen=True)
class Packaged:
    """What packages do for one family."""

    name: str
    build_s: float
    load_s: float  # without packages: the weights are read
    ready_s: float  # with packages: read, loaded, compared, and a clip made at the one size
    eager_forward_s: float
    forward_s: float
    used: int  # graphs in use

    @property
    def warm_start_s(self) -> float:
        """Beyond reading the weights."""
        return self.ready_s - self.load_s

    @property
    def speedup(self) -> float:
        return self.eager_forward_s / self.forward_s


def packaged_families(names: list[str], repeats: int) -> Iterator[Packaged]:
    """Build and measure one family after another."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            yield _measure(TOYS[name], PACKAGED[name], Path(folder), repeats)


def _measure(toy: Toy, parts: tuple[str, ...], folder: Path, repeats: int) -> Packaged:
    toy.save(folder)
    sizes = ["64x64"]
    eager_profile = profiles_file.read(toy.profile(folder, sizes=sizes, name=f"{toy.name}-eager"))
    graphs = ", ".join(f'{part} = "aoti"' for part in parts)
    table = (TABLE_KEY, f"graphs = {{ {graphs} }}\n{TABLE_KEY}")
    profile = profiles_file.read(toy.profile(folder, sizes=sizes, table=table))
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")

    began = time.perf_counter()
    packaging.build(profile, read_table(profile), device, lambda _line: None)
    build_s = time.perf_counter() - began

    _loaded(eager_profile).warm_up()  # what a process does once is no part of either
    began = time.perf_counter()
    eager = _loaded(eager_profile)
    load_s = time.perf_counter() - began
    began = time.perf_counter()
    engine = _loaded(profile)
    engine.warm_up()
    ready_s = time.perf_counter() - began
    eager.warm_up()

    spec, picture = spec_of(profile), noise(64, 64)
    # Alternating, so that what else the machine does meets both.
    pairs = [
        (by_ours(eager, spec, picture).forward_s, by_ours(engine, spec, picture).forward_s)
        for _ in range(repeats)
    ]
    return Packaged(
        toy.name,
        build_s,
        load_s,
        ready_s,
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        sum(each.used for each in engine._graphs),
    )


def _loaded(profile: Any) -> Any:
    engine: Any = load_engine(profile, SETTINGS)
    return getattr(engine, "phases", engine)
