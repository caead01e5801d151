"""A picture at the size of its clip, sharper where more pixels are stored, and as the network's."""

from typing import Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from workers.pipeline.grid import extent

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


def picture_in_square(picture: np.ndarray, side: int) -> Tensor:
    """The network's input picture: (H, W, 3) uint8 -> (3, side, side) in [-1, 1].

    Averages areas, and mirrors the picture where it does not fill the square.
    """
    small, pads = _place(picture.shape[0], picture.shape[1], side)
    pixels = torch.tensor(picture).permute(2, 0, 1)[None].float()
    pixels = F.interpolate(pixels, small, mode="area")[0] / 127.5 - 1
    return torch.from_numpy(np.pad(pixels.numpy(), [(0, 0), *pads], mode="symmetric"))


def matte_in_square(matte: np.ndarray, height: int, width: int, side: int) -> Tensor:
    """The matte (h, w) of a picture of this size, in the network's square: (side, side) in [0, 1].

    Averages areas. Nothing is covered where the picture does not fill the square.
    """
    (rows, columns), pads = _place(height, width, side)
    small = cv2.resize(matte, (columns, rows), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.pad(small, pads))


def _place(height: int, width: int, side: int) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """The picture's rows and columns in a square of cells, and how many are missing around it."""
    ex, ey = extent(height, width)
    small = (max(1, round(side * ey)), max(1, round(side * ex)))
    missing = [(side - n) // 2 for n in small]
    return small, [(n, side - n - have) for n, have in zip(missing, small, strict=True)]
