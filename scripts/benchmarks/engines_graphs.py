"""Compiled packages at toy size: how fast a worker starts with them, and how much faster it is."""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.config import profiles_file
from scripts.benchmarks.engines_clips import spec_of
from scripts.benchmarks.engines_stages import Stopwatch
from scripts.benchmarks.engines_starts import Start, typical_start
from scripts.benchmarks.engines_toys import SETTINGS, noise
from scripts.stack.data import ROOT
from tests.support.toys import TOYS
from workers.engines.diffusers.engine import DiffusersEngine
from workers.engines.registry import load_engine

# Blocks that repeat, and a network that is compiled as a whole.
PACKAGED = {"wan22": ("transformer", "transformer_2"), "svd": ("unet",)}
TABLE_KEY = "first_frame"
SIZES = ["64x64"]
STARTS = 3
LIMIT_S = 600.0  # of one compilation


@dataclass(frozen=True)
class Built:
    """A toy with packages, and how long they took."""

    name: str
    folder: Path
    seconds: float


@dataclass(frozen=True)
class Packaged:
    """What packages do for one family."""

    start: Start
    eager_forward_s: float
    forward_s: float
    used: int  # graphs in use

    @property
    def speedup(self) -> float:
        return self.eager_forward_s / self.forward_s


def place(name: str, folder: Path) -> None:
    """Save a toy and two profiles: without packages, and with. Not beside others: it draws."""
    toy = TOYS[name]
    toy.save(folder)
    toy.profile(folder, sizes=SIZES, name=f"{name}-eager")
    graphs = ", ".join(f'{part} = "aoti"' for part in PACKAGED[name])
    toy.profile(folder, sizes=SIZES, table=(TABLE_KEY, f"graphs = {{ {graphs} }}\n{TABLE_KEY}"))


def build(name: str, folder: Path) -> Built:
    """Compile packages as an operator does, in a process of its own."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "workers.models", "compile", name],
        cwd=ROOT,
        env=os.environ | {"MODEL_PROFILES": str(folder)},
        stdout=subprocess.DEVNULL,
        timeout=LIMIT_S,
        check=True,
    )
    return Built(name, folder, time.perf_counter() - began)


def measure(built: Built, repeats: int) -> Packaged:
    """Time starts and forwards with the packages."""
    file = built.folder / f"{built.name}.toml"
    start = typical_start(file, STARTS)
    engines = [_ready(file.with_name(f"{built.name}-eager.toml")), _ready(file)]
    # Alternating, so that what else the machine does meets both.
    rounds = [[_forward_s(engine) for engine in engines] for _ in range(repeats)]
    eager_s, packaged_s = (statistics.median(times) for times in zip(*rounds, strict=True))
    used = sum(each.used for each in engines[1]._graphs)
    return Packaged(start, eager_s, packaged_s, used)


def _ready(file: Path) -> DiffusersEngine:
    engine: Any = load_engine(profiles_file.read(file), SETTINGS)
    engine.warm_up()
    return engine  # type: ignore[no-any-return]


def _forward_s(engine: DiffusersEngine) -> float:
    """Mean seconds of a forward, of all forwards of a clip that is not decoded."""
    order = engine.prepare(spec_of(engine._profile), noise(64, 64))
    with torch.no_grad(), Stopwatch(engine._pipe) as watch:
        engine._pipe(**engine._arguments(order), output_type="latent")
    return watch.seconds["denoising"] / watch.calls["denoising"]
