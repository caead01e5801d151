"""One clip by several processes against the same clip by one, at toy size over gloo."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scripts.benchmarks.engines_clips import spec_of
from scripts.benchmarks.engines_stages import replaced
from scripts.benchmarks.engines_toys import loaded, noise
from tests.support.toys import TOYS, Toy
from workers.engines.diffusers import engine as engine_module
from workers.engines.diffusers.engine import DiffusersEngine

BY_TOKENS = ("wan22", "ltx", "ltx2")  # Ulysses
SIZES = (2, 4)
CHUNK = "decode_chunk_size = 8"
FRAMES = 9  # uneven for two and for four


@dataclass(frozen=True)
class Shared:
    """What a group made, against one process."""

    name: str
    gpus: int
    max_abs: float  # of frames from 0 to 1
    relative: float  # RMS of the difference over the standard deviation


def groups(sizes: tuple[int, ...] = SIZES) -> Iterator[Shared]:
    """Every family that can be shared out, in groups of these sizes."""
    with one_thread():
        for gpus in sizes:
            side = 64 * gpus // 2  # enough tokens for each
            changes = {"sizes": [f"{side}x{side}"], "default_size": side}
            for name in BY_TOKENS:
                yield _compare(TOYS[name], gpus, ("first_frame", "first_frame"), changes)
            # A shared VAE decodes in one go; so does the one process, then.
            yield _compare(TOYS["svd"], gpus, (CHUNK, f"decode_chunk_size = {FRAMES}"), {})


def _compare(toy: Toy, gpus: int, table: tuple[str, str], changes: dict[str, Any]) -> Shared:
    vae = "sharded" if toy.name == "svd" else "leader"
    parallel = f'parallel = {{ gpus = {gpus}, vae = "{vae}" }}\nfirst_frame'
    shared = toy.table.replace("first_frame", parallel).replace(CHUNK, "")
    with tempfile.TemporaryDirectory() as folder:
        profile, single = loaded(toy, Path(folder), table=table, **changes)
        picture = noise(profile.sizes[0].width, profile.sizes[0].height)
        order = single.prepare(spec_of(profile, frames=FRAMES), picture)
        wanted = _frames(single, order)
        _, group = loaded(toy, Path(folder), table=(toy.table, shared), **changes)
        try:
            found = _frames(group, order)
        finally:
            assert group._leader is not None, "the profile wants a group"
            group._leader.stop()
    off = found - wanted
    relative = off.square().mean().sqrt() / wanted.std()
    return Shared(toy.name, gpus, off.abs().max().item(), relative.item())


def _frames(engine: DiffusersEngine, order: Any) -> torch.Tensor:
    """The clip before it is rounded to levels."""
    kept: list[torch.Tensor] = []

    def keeping(original: Any) -> Any:
        def to_pixels(frame: torch.Tensor) -> Any:
            kept.append(frame.detach().float().cpu())
            return original(frame)

        return to_pixels

    with replaced(engine_module, "to_pixels", keeping):
        engine.render(order, lambda _step: None)
    return torch.stack(kept)


@contextmanager
def one_thread() -> Iterator[None]:
    """Here and in followers: sums depend on the number of threads."""
    threads, given = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if given is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = given
