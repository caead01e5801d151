"""The motion profiles' engine: the pipeline's tensors on one side, our errors on the other."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from app.domain.errors import Permanent, RenderFailed
from app.domain.job.profiles import Profile
from workers.engines.base import OnStep, Order
from workers.media.decode import watched
from workers.media.encode import encode_mp4
from workers.pipeline.animation import Animation
from workers.pipeline.errors import CheckpointError, NumericalError, OutOfMemory, PipelineError


class MotionEngine:
    """A motion model: denoise displacement fields, warp the picture, encode."""

    def __init__(self, profile: Profile, model_dir: Path | None, dtype: str, graph: str):
        with pipeline_errors():
            self._animation = Animation.load(
                model_dir, network=profile.network, dtype=dtype, graph=graph
            )
        self.version = self._animation.version

    def warm_up(self) -> None:
        with pipeline_errors():
            self._animation.warm_up()

    def render(self, order: Order, picture: bytes, on_step: OnStep) -> bytes:
        with pipeline_errors():
            frames = self._animation.animate(
                load_picture(picture, order.size),
                order.prompt,
                seed=order.seed,
                frames=order.frames,
                steps=order.steps,
                strength=order.motion,
                loop=order.loop,
                yuv=True,
                on_step=lambda step, _steps: on_step(step),
            )
            return encode_mp4(watched(frames, on_step), order.fps)


def load_picture(data: bytes, size: int) -> np.ndarray:
    """Decode a normalised picture and shrink it to `size` pixels on its longest side: (H, W, 3)."""
    with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as image:
        picture = image.convert("RGB")
        scale = size / max(picture.size)
        if scale < 1:
            # H.264 in yuv420p wants even sides.
            width, height = (max(2, round(side * scale / 2) * 2) for side in picture.size)
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(picture)


@contextmanager
def pipeline_errors() -> Iterator[None]:
    """The pipeline imports nothing of ours, so its errors are put into our tree here."""
    try:
        yield
    except CheckpointError as error:
        raise Permanent(str(error), code="checkpoint_unusable") from error
    except NumericalError as error:
        raise RenderFailed(str(error), code="numerical_error") from error
    except OutOfMemory as error:
        raise RenderFailed(str(error), code="out_of_memory") from error
    except PipelineError as error:
        raise RenderFailed(str(error)) from error
