"""Waits instead of rendering, and returns a fixed clip: the whole chain without a model."""

from dataclasses import dataclass
from importlib.resources import files
from random import Random
from time import sleep

from app.config.settings import ModelSettings
from app.domain.job.profiles import Profile
from workers.engines.base import OnStep, RenderSpec


def load(profile: Profile, config: ModelSettings) -> "NoopEngine":
    return NoopEngine(
        config.noop_step_s,
        config.noop_warm_up_s,
        spread=config.noop_step_spread,
        encode_s=config.noop_encode_s,
        clip_mb=config.noop_clip_mb,
    )


@dataclass(frozen=True)
class Nothing:
    """A rendered clip of no frames."""

    size_bytes: int


class NoopEngine:
    """Holds the GPU's thread for `step_s` per step, and a delivering one for `encode_s`.

    `spread`: the sigma of the logarithm of a step's time, which the job's seed draws. `clip_mb`:
    the memory that a clip claims to hold between the two.
    """

    version = "1"

    def __init__(
        self,
        step_s: float,
        warm_up_s: float,
        *,
        spread: float = 0.0,
        encode_s: float = 0.0,
        clip_mb: int = 0,
    ):
        self._step_s = step_s
        self._warm_up_s = warm_up_s
        self._spread = spread
        self._encode_s = encode_s
        self._clip_bytes = clip_mb * 2**20
        self._clip = files("workers.engines.noop").joinpath("noop.mp4").read_bytes()

    def warm_up(self) -> None:
        sleep(self._warm_up_s)

    def prepare(self, spec: RenderSpec, picture: bytes) -> RenderSpec:
        return spec

    def render(self, prepared: RenderSpec, on_step: OnStep) -> Nothing:
        draw = Random(prepared.seed)
        for step in range(1, prepared.steps + 1):
            sleep(self._step_s * draw.lognormvariate(0.0, self._spread))
            on_step(step)
        return Nothing(self._clip_bytes)

    def encode(self, rendered: Nothing, on_step: OnStep) -> bytes:
        sleep(self._encode_s)
        on_step(None)
        return self._clip
