"""Where the time of one clip goes: a stopwatch on a pipeline's parts, for stock and ours alike."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Parts of pipelines by the stage that they belong to. A dot leads into a part.
STAGE_OF = {
    "text_encoder": "encoder",
    "text_encoder_2": "encoder",
    "image_encoder": "encoder",
    "connectors": "encoder",
    "vae.encoder": "vae_encode",
    "transformer": "denoising",
    "transformer_2": "denoising",
    "unet": "denoising",
    "vae.decoder": "vae_decode",
    "audio_vae.decoder": "sound",
    "vocoder": "sound",
}
STAGES = (*dict.fromkeys(STAGE_OF.values()), "transfer", "mp4", "residual")


def synchronise() -> None:
    """Wait for the device: a launch is not work done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stopwatch:
    """Attached to the parts of a pipeline, inside a `with` block."""

    def __init__(self, pipe: Any):
        self._parts = {name: part for name in STAGE_OF if (part := _part(pipe, name)) is not None}
        self._hooks: list[Any] = []
        self._began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def __enter__(self) -> "Stopwatch":
        for name, part in self._parts.items():
            stage = STAGE_OF[name]
            self._hooks += [
                part.register_forward_pre_hook(self._beginning(stage), prepend=True),
                part.register_forward_hook(self._end(stage), always_call=True),
            ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _beginning(self, stage: str) -> Callable[..., None]:
        def begin(*_: Any) -> None:
            synchronise()
            self._began[stage] = time.perf_counter()

        return begin

    def _end(self, stage: str) -> Callable[..., None]:
        def end(*_: Any) -> None:
            synchronise()
            self._add(stage, time.perf_counter() - self._began[stage])

        return end

    def _add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.calls[stage] = self.calls.get(stage, 0) + 1

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block as a stage of its own."""
        synchronise()
        began = time.perf_counter()
        try:
            yield
        finally:
            synchronise()
            self._add(name, time.perf_counter() - began)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, each call of it a part of a stage."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return call


def _part(pipe: Any, name: str) -> torch.nn.Module | None:
    found = pipe
    for key in name.split("."):
        found = getattr(found, key, None)
    return found if isinstance(found, torch.nn.Module) else None


@contextmanager
def replaced(owner: Any, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """While in this block, `owner.name` is what `change` makes of it."""
    before = getattr(owner, name)
    setattr(owner, name, change(before))
    try:
        yield
    finally:
        setattr(owner, name, before)
