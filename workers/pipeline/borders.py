"""What a motion shows beyond the picture's edges, and how it is hidden."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from workers.pipeline.grid import extent, grid_weights, place

# A side is flat if the outermost pixels along it, this share of the picture deep, differ by no more
# than so many levels. JPEG noise stays below; the wall behind a product does not.
FLAT_SHARE = 0.02
FLAT_LEVELS = 12


class Sides(NamedTuple):
    """One value for each side of a picture."""

    left: bool = False
    right: bool = False
    top: bool = False
    bottom: bool = False


NONE_FLAT = Sides()


def flat_sides(picture: np.ndarray) -> Sides:
    """The sides of a picture, (H, W, 3) uint8, that can be continued in one colour unseen."""
    deep_y, deep_x = (max(2, round(side * FLAT_SHARE)) for side in picture.shape[:2])
    strips = (
        picture[:, :deep_x],
        picture[:, -deep_x:],
        picture[:deep_y],
        picture[-deep_y:],
    )
    return Sides(*(_is_flat(strip.reshape(-1, 3)) for strip in strips))


def _is_flat(pixels: np.ndarray) -> bool:
    low, high = pixels.min(0).astype(int), pixels.max(0).astype(int)
    return bool((high - low).max() <= FLAT_LEVELS)


def keep_inside(motion: Tensor, height: int, width: int, flat: Sides = NONE_FLAT) -> Tensor:
    """Zoom in just far enough to hide what the motion would show beyond the picture's edges.

    motion (2, K, g, g) with knot 0 at time 0. The zoom starts at nothing and never decreases. It
    does not hide what a zoom out shows beyond all four edges: that would undo the zoom out. Beyond
    a flat side there is nothing to hide.
    """
    cells = motion.shape[-1]
    half = torch.tensor(extent(height, width))
    # Displaced positions of points along the edges, in half pictures: (2, K, 17, 17).
    line = torch.linspace(-1, 1, 17)
    wx, wy = grid_weights(line * half[0], cells), grid_weights(line * half[1], cells)
    moved = torch.einsum("yi,ckij,xj->ckyx", wy, motion, wx)
    y, x = torch.meshgrid(line * half[1], line * half[0], indexing="ij")
    at = (moved + torch.stack([x, y])[:, None]) / half[:, None, None, None]  # in half pictures
    sides = torch.stack([-at[0, :, :, 0], at[0, :, :, -1], -at[1, :, 0], at[1, :, -1]])
    everywhere = sides.mean(2).amin(0) - 1
    # Any point of a frame may show what lies beyond a side: a corner, or the middle of the frame.
    shown = torch.stack([-at[0], at[0], -at[1], at[1]]).amax((2, 3))  # (4, K)
    shown[torch.tensor(flat)] = 0
    beyond = (shown.amax(0) - 1 - everywhere.clamp(min=0)).clamp(min=0).cummax(0).values  # (K,)
    zoom = 1 / (1 + beyond)[:, None, None]
    centres = place(cells)[:, None]
    return (centres + motion) * zoom - centres
