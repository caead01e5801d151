"""What every engine offers: a picture in, an MP4 out. Knows pictures, not queues.

An engine is one folder of this package. It holds `engine.py`, whose `load(profile, config)` returns
an Engine, and `profiles/`, one TOML file for each profile that it serves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

OnStep = Callable[[int | None], None]  # denoising step k is done; None: a frame was encoded


@dataclass(frozen=True)
class RenderSpec:
    """What to render. `size` is the longest side in pixels; `motion` multiplies all motion."""

    prompt: str
    seed: int
    frames: int
    fps: int
    size: int
    steps: int
    motion: float = 1.0
    loop: bool = False


class Engine(Protocol):
    """One loaded profile."""

    version: str  # of its model

    def warm_up(self) -> None:
        """Render once, so that the first job finds everything loaded."""

    def render(self, spec: RenderSpec, picture: bytes, on_step: OnStep) -> bytes:
        """Return the MP4. An exception from `on_step` stops the work there.

        Raises StillmotionError.
        """
