"""What every engine offers: a picture in, an MP4 out, in three parts. Knows pictures, not queues.

An engine is one folder of this package. It holds `engine.py`, whose `load(profile, config)` returns
an Engine, and `profiles/`, one TOML file for each profile that it serves. Its `__init__.py` may
have a `check(config)`, which is called before `engine.py` and its libraries are imported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

OnStep = Callable[[int | None], None]  # denoising step k is done; None: other progress, a frame


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
    negative_prompt: str = ""  # empty: the profile's own


class Rendered(Protocol):
    """A clip that has been rendered and is not encoded yet."""

    @property
    def size_bytes(self) -> int:
        """The host memory that it holds."""


P = TypeVar("P")  # what `prepare` makes and `render` takes
R = TypeVar("R", bound=Rendered)


class Engine(Protocol[P, R]):
    """One loaded profile. Each method may raise StillmotionError.

    `warm_up` and `render` run in one thread, the GPU's, for the life of the process. `prepare` and
    `encode` run in other threads beside the render of another clip, and beside each other, so they
    use no GPU and nothing that `render` changes. The engine keeps no reference to what they return.
    """

    version: str  # of its model

    def warm_up(self) -> None:
        """Render once, so that the first job finds everything loaded."""

    def prepare(self, spec: RenderSpec, picture: bytes) -> P:
        """Decode and read what the render needs: small, and in host memory. Takes milliseconds."""

    def render(self, prepared: P, on_step: OnStep) -> R:
        """Do all that needs the GPU, and copy the frames to host memory.

        Calls on_step(k) when the device has finished step k = 1..spec.steps: the worker predicts
        the end from these times. An exception from `on_step` stops the work there. Leaves
        `prepared` as it was. After RenderFailed("out_of_memory") beside other clips it may be
        called again with it, once those are gone.
        """

    def encode(self, rendered: R, on_step: OnStep) -> bytes:
        """Return the MP4. Calls on_step(None) meanwhile; its exceptions stop the work."""


AnyEngine = Engine[Any, Any]
