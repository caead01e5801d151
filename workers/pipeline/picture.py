"""A picture at the size of its clip, and sharper where more pixels are stored."""

from typing import Self

import numpy as np
from PIL import Image

# Sampling a picture of more pixels than the frame has would alias in the frames without zoom.
SHARPEST = 1.4


class Picture:
    """`pixels`: (H, W, 3) uint8, as the first frame shows it."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels
        self._stored: Image.Image | None = None
        self._box = (0.0, 0.0, 0.0, 0.0)

    @classmethod
    def cut(
        cls, image: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]
    ) -> Self:
        """The part of an image in a box (left, top, right, bottom), at `size` (width, height)."""
        made = cls(np.asarray(image.resize(size, Image.Resampling.LANCZOS, box)))
        made._stored, made._box = image, box
        return made

    def magnified(self, zoom: float) -> np.ndarray:
        """The picture with up to `zoom` times the pixels along each side, as far as stored."""
        height, width = self.pixels.shape[:2]
        if self._stored is None:
            return self.pixels
        left, _, right, _ = self._box
        zoom = min(zoom, SHARPEST, (right - left) / width)
        # Even sides, so that chroma covers exactly what luma covers.
        size = (round(width * zoom / 2) * 2, round(height * zoom / 2) * 2)
        if size[0] <= width or size[1] <= height:
            return self.pixels
        return np.asarray(self._stored.resize(size, Image.Resampling.LANCZOS, self._box))
