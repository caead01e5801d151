"""An engine of three phases as one that renders in one go."""

from typing import Any

from workers.engines.base import OnStep, RenderSpec


class Whole:
    """Prepares, renders and encodes one clip after another."""

    def __init__(self, engine: Any):
        self.phases = engine
        self.version: str = engine.version

    def warm_up(self) -> None:
        self.phases.warm_up()

    def render(self, spec: RenderSpec, picture: bytes, on_step: OnStep) -> bytes:
        prepared = self.phases.prepare(spec, picture)
        clip: bytes = self.phases.encode(self.phases.render(prepared, on_step), on_step)
        return clip
