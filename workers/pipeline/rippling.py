"""Whether a picture may ripple where the network only guesses that it does.

Asked for waves, the network looks for water. Without any, it marks the lower half, as training
drew it. Texture bears that: grass, the moon, stars. Long edges do not: a table, a wall, lines of
text are seen to bend. Waves are long edges, too, but hardly anything changes along them.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from workers.pipeline.asked import SUBJECT, Asked

# A guess: nothing of the upper rows is soft, all of the lower ones is. Those in the middle differ.
ROWS = 3 / 8
UPPER_MOST, LOWER_LEAST = 0.15, 0.7
SIDE = 256  # pixels along the longest side, for the lengths below
FINE, COARSE = 1.0, 4.0  # deviations over which edges are found, and over which they must go on
EDGE = 4.0  # grey levels per pixel: weaker edges are not seen to bend
STRAIGHT = 0.6  # 1: all gradients near a place have one direction
MIDDLE = 8  # pixels below the middle where the lower half begins
# Of what would ripple, near long edges, and where much changes along a row; see decision 112.
MOST_LINES, MOST_ALONG = 0.12, 0.1
LEAST_GROUND = 50  # pixels; a smaller background has no lines


def only_guessed(probability: Tensor) -> bool:
    """Whether (g, g) probabilities that a background ripples are those of the lower half."""
    rows = round(ROWS * len(probability))
    upper, lower = probability[:rows], probability[-rows:]
    return bool(upper.max() < UPPER_MOST and lower.min() > LOWER_LEAST)


def stiff_below(image: np.ndarray, matte: np.ndarray | None) -> bool:
    """Whether a picture's lower half, without its subject, shows long edges that are no waves.

    image (H, W, 3) uint8; matte (H, W) in [0, 1] at any size, or None.
    """
    lines, along = edges_below(image, matte)
    return lines > MOST_LINES and along > MOST_ALONG


def edges_below(image: np.ndarray, matte: np.ndarray | None) -> tuple[float, float]:
    """The shares of the lower half near long edges, and where much changes along a row."""
    grey: np.ndarray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = SIDE / max(grey.shape)
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = cv2.GaussianBlur(cv2.resize(grey, (width, height), interpolation=kind), (0, 0), FINE)
    ground = np.zeros(grey.shape, bool)
    ground[height // 2 + MIDDLE :] = True
    if matte is not None:
        covered = cv2.resize(matte.astype(np.float32), (width, height))
        ground &= covered < 0.3
    if ground.sum() < LEAST_GROUND:
        return 0.0, 0.0
    x, y = (cv2.Sobel(grey, cv2.CV_32F, *way, scale=1 / 8) for way in ((1, 0), (0, 1)))
    # The structure tensor's larger eigenvalue, and how much it is the only one.
    xx, yy, xy = (cv2.GaussianBlur(part, (0, 0), COARSE) for part in (x * x, y * y, x * y))
    whole, apart = xx + yy, np.sqrt(np.square(xx - yy) + 4 * np.square(xy))
    lines = ((whole + apart) / 2 > EDGE**2) & (apart > STRAIGHT * whole)
    return float(lines[ground].mean()), float((xx > EDGE**2)[ground].mean())


def without_guess(probability: Tensor, asked: Asked | None) -> Tensor:
    """Probabilities (2, g, g) that background and subject are soft, 0 where a ripple of the
    background is only a guess."""
    ripples = asked is not None and asked.object == "ripple" and asked.target != SUBJECT
    if not ripples or not only_guessed(probability[0]):
        return probability
    return torch.stack([torch.zeros_like(probability[0]), probability[1]])
