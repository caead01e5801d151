"""MP4 to frames, for the content check. Needs only PyAV and numpy."""

import io
from collections.abc import Callable, Iterator

import numpy as np


def decode_mp4(video: bytes) -> Iterator[np.ndarray]:
    """The frames, (H, W, 3) uint8 RGB, one at a time."""
    # Imported here, so that a worker without a content check and without a model needs no PyAV.
    import av

    with av.open(io.BytesIO(video), "r") as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def report_frames(
    frames: Iterator[np.ndarray], on_step: Callable[[int | None], None]
) -> Iterator[np.ndarray]:
    """The same frames. Reports each one, which is progress and a chance to stop."""
    for frame in frames:
        on_step(None)
        yield frame
