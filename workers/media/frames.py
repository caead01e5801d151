"""The frames of a clip in host memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frames:
    """All frames of a clip, as `encode_mp4` takes them, and their rate."""

    frames: list[np.ndarray]
    fps: int

    @property
    def size_bytes(self) -> int:
        return sum(frame.nbytes for frame in self.frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.frames)
