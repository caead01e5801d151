"""Waits instead of rendering, and returns a fixed clip: the whole chain without a model."""

from importlib.resources import files
from time import sleep

from app.config.settings import ModelSettings
from app.domain.job.profiles import Profile
from workers.engines.base import OnStep, RenderSpec


def load(profile: Profile, config: ModelSettings) -> "NoopEngine":
    return NoopEngine(config.noop_step_s, config.noop_warm_up_s)


class NoopEngine:
    version = "1"

    def __init__(self, step_s: float, warm_up_s: float):
        self._step_s = step_s
        self._warm_up_s = warm_up_s
        self._clip = files("workers.engines.noop").joinpath("noop.mp4").read_bytes()

    def warm_up(self) -> None:
        sleep(self._warm_up_s)

    def render(self, spec: RenderSpec, picture: bytes, on_step: OnStep) -> bytes:
        for step in range(1, spec.steps + 1):
            sleep(self._step_s)
            on_step(step)
        return self._clip
