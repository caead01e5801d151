"""Continues colours smoothly over where they are not known: pull and push, evened out."""

import cv2
import numpy as np
import torch
from torch import Tensor

RELAXED = 2  # times that each level of a smooth continuation is evened out


def smooth(colour: Tensor, known: Tensor) -> Tensor:
    """Known cells as they are, the others a smooth continuation: pull and push, Gortler 1996.

    colour (1, c, h, w), known (h, w) bool
    """
    cells = colour[0].permute(1, 2, 0).contiguous().numpy()
    found = pulled_and_pushed(cells, known.numpy())
    return torch.from_numpy(found).permute(2, 0, 1)[None]


def pulled_and_pushed(colour: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`smooth` of (h, w, c) float32, where known (h, w) bool."""
    sure = known.astype(np.float32)
    levels: list[tuple[np.ndarray, np.ndarray]] = [(colour * sure[..., None], sure)]
    while max(levels[-1][1].shape) > 1:
        total, sure = (_halved(part) for part in levels[-1])
        # Sure as soon as one of the four is: a thin rim must not fade into what is far from it.
        share = np.minimum(4 * sure, 1)
        levels.append((total * (share / np.maximum(sure, 1e-9))[..., None], share))
    total, sure = levels.pop()
    mean = total / np.maximum(sure, 1e-9)[..., None]
    for total, sure in reversed(levels):
        height, width = sure.shape
        wider = cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
        wider = wider.reshape(total.shape)
        open_ = (1 - sure)[..., None]
        mean = total / np.maximum(sure, 1e-9)[..., None]
        mean += (wider - mean) * open_
        for _ in range(RELAXED):
            around = cv2.blur(mean, (3, 3), borderType=cv2.BORDER_REPLICATE).reshape(mean.shape)
            mean += (around - mean) * open_
    filled: np.ndarray = np.where(known[..., None], colour, mean)
    return filled


def _halved(part: np.ndarray) -> np.ndarray:
    """Means of two by two cells; at an odd edge, of those that there are."""
    height, width = part.shape[:2]
    pad = [(0, height % 2), (0, width % 2), *[(0, 0)] * (part.ndim - 2)]
    even = np.pad(part, pad, mode="edge")
    size = (even.shape[1] // 2, even.shape[0] // 2)
    small: np.ndarray = cv2.resize(even, size, interpolation=cv2.INTER_AREA)
    return small.reshape(size[1], size[0], *part.shape[2:])
