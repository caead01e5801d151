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
from tests.support.toys import TOYS
from workers.engines.diffusers import engine as engine_module
from workers.engines.diffusers.engine import DiffusersEngine

BY_TOKENS = ("wan22", "ltx", "ltx2")  # Ulysses
BY_ROWS = {  # VAEs; sizes whose tokens go by 2 and by 4, with more latent rows for some members
    "wan22": {2: "64x64", 4: "64x48"},
    "wan22-ti2v": {2: "64x64", 4: "128x96"},
    "ltx": {2: "64x96", 4: "128x160"},
    "ltx2": {2: "64x160", 4: "128x288"},
}
PASSES = "wan22-ti2v"  # both passes of guidance at once
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


def by_tokens(sizes: tuple[int, ...] = SIZES) -> Iterator[Shared]:
    """Networks whose tokens are shared out, in groups of these sizes."""
    for gpus in sizes:
        side = 64 * gpus // 2  # enough tokens for each
        for name in BY_TOKENS:
            yield _compare(name, gpus, f"{side}x{side}")


def by_frames(sizes: tuple[int, ...] = SIZES) -> Iterator[Shared]:
    """SVD, its decoder too. That decodes in one go; so does the one process, then."""
    for gpus in sizes:
        whole = (CHUNK, f"decode_chunk_size = {FRAMES}")
        yield _compare("svd", gpus, "64x64", vae="sharded", alone=whole)


def by_rows(sizes: tuple[int, ...] = SIZES) -> Iterator[Shared]:
    """VAEs of Wan and LTX whose rows are shared out, encoder and decoder."""
    for gpus in sizes:
        for name, sides in BY_ROWS.items():
            yield _compare(name, gpus, sides[gpus], vae="sharded")


def by_passes(sizes: tuple[int, ...] = SIZES) -> Iterator[Shared]:
    """Both passes of guidance at once: by two whole networks, or by two pairs."""
    for gpus in sizes:
        yield _compare(PASSES, gpus, "64x64", guidance="true")


def _compare(
    name: str,
    gpus: int,
    size: str,
    *,
    vae: str = "leader",
    guidance: str = "false",
    alone: tuple[str, str] = ("first_frame", "first_frame"),
) -> Shared:
    """Render with one process and with a group; `alone` changes the table of the one."""
    toy = TOYS[name]
    parallel = f'parallel = {{ gpus = {gpus}, vae = "{vae}", guidance = {guidance} }}\nfirst_frame'
    shared = toy.table.replace("first_frame", parallel).replace(CHUNK, "")
    changes = {"sizes": [size], "default_size": max(map(int, size.split("x")))}
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        profile, single = loaded(toy, Path(folder), table=alone, **changes)
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
    return Shared(name, gpus, off.abs().max().item(), relative.item())


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
