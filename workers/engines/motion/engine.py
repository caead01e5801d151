"""The motion engine: turns jobs into calls of the pipeline, and its errors into ours."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.config.settings import ModelSettings
from app.domain.errors import Permanent, RenderFailed
from app.domain.job.clip_size import clip_size, shown_box
from app.domain.job.profiles import Profile
from app.domain.prompt.reading import Grammar, understand
from workers.engines.base import OnStep, RenderSpec
from workers.media.decode import report_frames
from workers.media.streamed import StreamedClip
from workers.pipeline.animation import Animation
from workers.pipeline.errors import (
    CheckpointError,
    MatteError,
    NumericalError,
    OutOfMemory,
    PipelineError,
)
from workers.pipeline.picture import Picture


def load(profile: Profile, config: ModelSettings) -> "MotionEngine":
    """Load the profile's network. Raises StillmotionError."""
    return MotionEngine(
        profile, config.model_dir, config.model_dtype, config.model_graph, config.matte_model
    )


@dataclass(frozen=True)
class Order:
    """What a render needs: the picture, and the words that the model knows."""

    spec: RenderSpec
    picture: Picture
    prompt: str


class MotionEngine:
    """A motion model: denoise motion, move the picture's layers, encode."""

    def __init__(
        self, profile: Profile, model_dir: Path | None, dtype: str, graph: str, matte: str
    ):
        with translate_pipeline_errors():
            self._animation = Animation.load(
                model_dir, network=profile.network, dtype=dtype, graph=graph, matte=matte
            )
        self._grammar = profile.grammar
        self.version = self._animation.version

    def warm_up(self) -> None:
        with translate_pipeline_errors():
            self._animation.warm_up()

    def prepare(self, spec: RenderSpec, picture: bytes) -> Order:
        words = plain_words(self._grammar, spec.prompt)
        return Order(spec, load_picture(picture, spec.size), words)

    def render(self, prepared: Order, on_step: OnStep) -> StreamedClip:
        spec = prepared.spec
        with translate_pipeline_errors():
            frames = self._animation.animate(
                prepared.picture,
                prepared.prompt,
                seed=spec.seed,
                frames=spec.frames,
                steps=spec.steps,
                strength=spec.motion,
                loop=spec.loop,
                yuv=True,
                on_step=lambda step, _steps: on_step(step),
            )
            # Encoded meanwhile: that takes about as long, and half a core would be idle.
            return StreamedClip.of(report_frames(frames, on_step), spec.fps)

    def encode(self, rendered: StreamedClip, on_step: OnStep) -> bytes:
        return rendered.video(lambda: on_step(None))


def plain_words(grammar: Grammar | None, prompt: str) -> str:
    """The prompt that the model gets: only what the grammar understands of it.

    The job shows what that is, so nothing else may have an effect.
    """
    understood = understand(grammar, prompt)
    return prompt if understood is None else understood.plain


def load_picture(data: bytes, size: int) -> Picture:
    """Decode a normalised picture for a clip whose longest side is `size` pixels."""
    with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as image:
        stored = image.convert("RGB")
    if max(stored.size) <= size:
        return Picture(np.asarray(stored))
    shrunk = clip_size(*stored.size, size)
    return Picture.cut(stored, shown_box(*stored.size, shrunk), shrunk)


@contextmanager
def translate_pipeline_errors() -> Iterator[None]:
    """Raise the pipeline's errors as ours: the pipeline imports nothing of the service."""
    try:
        yield
    except CheckpointError as error:
        raise Permanent(str(error), code="checkpoint_unusable") from error
    except MatteError as error:
        raise Permanent(str(error), code="matte_unusable") from error
    except NumericalError as error:
        raise RenderFailed(str(error), code="numerical_error") from error
    except OutOfMemory as error:
        raise RenderFailed(str(error), code="out_of_memory") from error
    except PipelineError as error:
        raise RenderFailed(str(error)) from error
