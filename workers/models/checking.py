"""Does a model do what its profile says? Renders a picture in every way that it is served.

Thresholds are those of the profile; the defaults are uncalibrated: they were chosen without the
weights of any published model, to find clips that are broken, not clips that are poor.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf, log10
from typing import Any

import numpy as np

from app.domain.job.profiles import Option, Profile
from workers.engines.base import RenderSpec

PROMPTS = ("the camera slowly zooms in", "everything sways in the wind")


@dataclass(frozen=True)
class Thresholds:
    """What a clip must reach; levels are of 0 to 255."""

    first_frame_db: float = 20.0  # PSNR of frame 0 against the picture, where the model keeps it
    motion: float = 1.0  # mean change of a pixel from the first frame to the last, at least
    drift: float = 40.0  # change of the mean colour from the first frame to the last, at most


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    seen: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.good else 'FAIL'}  {self.what}: {self.seen}"


def check(
    engine: Any,
    profile: Profile,
    picture: bytes,
    thresholds: Thresholds,
    *,
    first_frame_kept: bool,
) -> Iterator[Finding]:
    """Yield what is found, as it is found. Raises StillmotionError if a render fails."""
    base = RenderSpec(
        prompt=PROMPTS[0] if Option.PROMPT in profile.honours else "",
        seed=1,
        frames=profile.default_frames,
        fps=profile.default_fps,
        size=profile.default_size,
        steps=profile.steps,
    )
    first = None
    for size in sorted({max(size) for size in profile.sizes}):
        spec = replace(base, size=size)
        order, frames = _render(engine, spec, picture)
        name = f"{order.picture.width}x{order.picture.height}, {len(frames)} frames"
        if first is None:
            first = frames
        if first_frame_kept:
            yield _first_frame(name, frames[0], np.asarray(order.picture), thresholds)
        yield from _looks(name, frames, thresholds)
    base = replace(base, size=min(max(size) for size in profile.sizes))
    assert first is not None, "a profile has a size"
    yield _same("the same seed, again", _render(engine, base, picture)[1], first, same=True)
    for name, spec in _variations(profile, base):
        yield _same(name, _render(engine, spec, picture)[1], first, same=False)


def _variations(profile: Profile, base: RenderSpec) -> Iterator[tuple[str, RenderSpec]]:
    """Orders that must give another clip than `base`."""
    yield "another seed", replace(base, seed=2)
    if Option.PROMPT in profile.honours:
        yield "another prompt", replace(base, prompt=PROMPTS[1])
    if Option.NEGATIVE_PROMPT in profile.honours:
        yield "a negative prompt", replace(base, negative_prompt=PROMPTS[1])
    if Option.MOTION in profile.honours:
        yield "twice the motion", replace(base, motion=2.0)
    if Option.LOOP in profile.honours:
        yield "a loop", replace(base, loop=True)


def _render(engine: Any, spec: RenderSpec, picture: bytes) -> tuple[Any, list[np.ndarray]]:
    order = engine.prepare(spec, picture)
    return order, list(engine.render(order, lambda _step: None))


def _first_frame(
    name: str, frame: np.ndarray, picture: np.ndarray, thresholds: Thresholds
) -> Finding:
    error = float(np.mean((frame.astype(float) - picture) ** 2))
    found_db = inf if error == 0 else 10 * log10(255**2 / error)
    least = thresholds.first_frame_db
    seen = f"{found_db:.1f} dB from the picture, at least {least:g}"
    return Finding(f"{name}: first frame", found_db >= least, seen)


def _looks(name: str, frames: list[np.ndarray], thresholds: Thresholds) -> Iterable[Finding]:
    first, last = frames[0].astype(float), frames[-1].astype(float)
    spread = float(np.mean([frame.std() for frame in frames]))
    yield Finding(f"{name}: content", spread >= 2.0, f"levels spread by {spread:.1f}, at least 2")
    motion = float(np.abs(last - first).mean())
    least = thresholds.motion
    yield Finding(f"{name}: motion", motion >= least, f"{motion:.1f} levels, at least {least:g}")
    drift = float(np.abs(last.mean((0, 1)) - first.mean((0, 1))).max())
    most = thresholds.drift
    yield Finding(f"{name}: colour", drift <= most, f"drifts by {drift:.1f}, at most {most:g}")


def _same(name: str, some: list[np.ndarray], others: list[np.ndarray], *, same: bool) -> Finding:
    equal = len(some) == len(others) and all(map(np.array_equal, some, others))
    seen = "the same clip" if equal else "another clip"
    return Finding(name, equal == same, seen)
