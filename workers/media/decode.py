"""An MP4's frames, for the content check. Needs PyAV and numpy only."""

import io
from collections.abc import Callable, Iterator

import numpy as np


def decode_mp4(video: bytes) -> Iterator[np.ndarray]:
    """The frames, (H, W, 3) uint8 RGB, one at a time."""
    # Here: a worker without a content check, and without a model, needs no PyAV.
    import av

    with av.open(io.BytesIO(video)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def report_frames(
    frames: Iterator[np.ndarray], on_step: Callable[[int | None], None]
) -> Iterator[np.ndarray]:
    """The same frames; every one of them is progress, and a chance to stop."""
    for frame in frames:
        on_step(None)
        yield frame
