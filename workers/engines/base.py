"""From a picture to an MP4, for each kind of profile. Knows pictures and tensors, not queues."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from time import sleep
from typing import Protocol

from app.domain.job.profiles import Profile

OnStep = Callable[[int | None], None]  # a denoising step k, or None: a frame was encoded


@dataclass(frozen=True)
class Order:
    """What to render: `size` is the longest side in pixels, `motion` multiplies all motion."""

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

    def render(self, order: Order, picture: bytes, on_step: OnStep) -> bytes:
        """The MP4. Whatever `on_step` raises stops the work there. Raises StillmotionError."""


def load_engine(
    profile: Profile,
    *,
    model_dir: Path | None,
    dtype: str,
    graph: str,
    noop_step_s: float,
    noop_warm_up_s: float,
) -> Engine:
    """Load a profile's engine. Only a real model imports torch.

    Raises StillmotionError with one sentence when the checkpoint cannot be used.
    """
    if profile.name == "noop":
        return NoopEngine(noop_step_s, noop_warm_up_s)
    # Here, so that a worker without a model needs neither torch nor its 300 MB.
    from workers.engines.motion import MotionEngine

    return MotionEngine(profile, model_dir, dtype, graph)


class NoopEngine:
    """Waits instead of rendering: the whole chain without a model."""

    version = "1"

    def __init__(self, step_s: float, warm_up_s: float):
        self._step_s = step_s
        self._warm_up_s = warm_up_s
        self._clip = files("workers.engines").joinpath("noop.mp4").read_bytes()

    def warm_up(self) -> None:
        sleep(self._warm_up_s)

    def render(self, order: Order, picture: bytes, on_step: OnStep) -> bytes:
        for step in range(1, order.steps + 1):
            sleep(self._step_s)
            on_step(step)
        return self._clip
