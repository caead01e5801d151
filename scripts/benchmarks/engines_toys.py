"""Every family of models at toy size, on this machine's device: bits, stops, and stages."""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from app.config import profiles_file
from app.domain.errors import Canceled
from app.domain.job.profiles import Profile
from scripts.benchmarks.engines_clips import Clip, by_ours, by_stock, spec_of
from tests.support.toys import TOYS, Toy
from workers.engines.diffusers.engine import DiffusersEngine
from workers.engines.diffusers.loading import pipeline_class
from workers.engines.registry import load_engine

SETTINGS: Any = SimpleNamespace(steps_of=lambda profile: profile.steps)


@dataclass(frozen=True)
class Family:
    """What was found for one family."""

    name: str
    stock: Clip
    ours: Clip
    max_abs: int  # between the frames of both, of 255
    steps_after_cancel: int  # that were made after somebody asked to stop
    same_after_cancel: bool

    @property
    def ratio(self) -> float:
        """Our time over the library's."""
        return self.ours.total_s / self.stock.total_s


def families(names: list[str] | None = None, repeats: int = 2) -> Iterator[Family]:
    """Measure one family after another. Of `repeats` clips, the fastest counts."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names or TOYS:
            yield family(TOYS[name], Path(folder), repeats)


def loaded(toy: Toy, folder: Path, **changes: Any) -> tuple[Profile, DiffusersEngine]:
    """Build a toy's checkpoint in a folder, and load it as a worker does."""
    toy.save(folder)
    profile = profiles_file.read(toy.profile(folder, **changes))
    engine: Any = load_engine(profile, SETTINGS)
    return profile, getattr(engine, "phases", engine)


def family(toy: Toy, folder: Path, repeats: int) -> Family:
    """Make the same clip in both ways."""
    profile, engine = loaded(toy, folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stock = pipeline_class(engine._table.pipeline).from_pretrained(folder / toy.name).to(device)
    stock.set_progress_bar_config(disable=True)
    spec, picture = spec_of(profile), noise(96, 64)

    def library() -> Clip:
        given = engine._arguments(engine.prepare(spec, picture))
        return by_stock(stock, engine._table.sigmas, given, spec.fps)

    stocks, clips = [], []
    for _ in range(1 + repeats):  # the first warms up
        stocks.append(library())
        clips.append(by_ours(engine, spec, picture))
    late = _steps_after_cancel(engine, spec, picture)
    again = by_ours(engine, spec, picture)
    first = clips[0].frames.astype(int)
    return Family(
        toy.name,
        min(stocks[1:], key=lambda clip: clip.total_s),
        min(clips[1:], key=lambda clip: clip.total_s),
        max_abs=int(np.abs(first - stocks[0].frames).max()),
        steps_after_cancel=late,
        same_after_cancel=bool(np.array_equal(again.frames, clips[0].frames)),
    )


def _steps_after_cancel(engine: DiffusersEngine, spec: Any, picture: bytes) -> int:
    told: list[int] = []

    def stop(step: int | None) -> None:
        if step is not None:
            told.append(step)
            raise Canceled("stop")

    try:
        engine.render(engine.prepare(spec, picture), stop)
    except Canceled:
        return len(told) - 1
    return spec.steps  # type: ignore[no-any-return]


def peak_of_decoding(frames: int = 25) -> int:
    """The most frames that Wan's decoder makes at once."""
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        profile, engine = loaded(TOYS["wan22"], Path(folder))
        hook = engine._pipe.vae.decoder.register_forward_hook(
            lambda _module, _args, out: sizes.append(out.shape[2])
        )
        by_ours(engine, spec_of(profile, frames=frames), noise(64, 64))
        hook.remove()
    return int(max(sizes))


def noise(width: int, height: int) -> bytes:
    """A picture that has something everywhere."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def main() -> None:
    """Print a line for each family, as it is found."""
    import json

    for found in families(repeats=1):
        row = {
            "family": found.name,
            "max_abs": found.max_abs,
            "steps_after_cancel": found.steps_after_cancel,
            "same_after_cancel": found.same_after_cancel,
            "stock_s": round(found.stock.total_s, 3),
            "ours_s": round(found.ours.total_s, 3),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
