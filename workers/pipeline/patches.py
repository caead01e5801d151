"""Grids of cells as filling a hole needs them: patches around cells, masks grown and shrunk."""

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 2  # cells, as far as a patch tries a place beside that of a neighbour


def inside(places: Tensor, usable: Tensor) -> Tensor:
    """Which places (n, 2) are in the picture and usable."""
    height, width = usable.shape
    rows, columns = places[:, 0], places[:, 1]
    within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return within & usable[rows.clamp(0, height - 1), columns.clamp(0, width - 1)]


def with_margin(x: Tensor, beyond: int) -> Tensor:
    """x (h, w) with a margin of `beyond`, flat."""
    return F.pad(x, (MARGIN,) * 4, value=beyond).view(-1)


def in_margin(cells: Tensor, width: int) -> Tensor:
    """Indices of cells of a grid that is `width` wide, as `with_margin` counts them."""
    return (cells // width + MARGIN) * (width + 2 * MARGIN) + cells % width + MARGIN


def patches_of(x: Tensor, radius: int) -> Tensor:
    """The patch around each cell: (1, c, h, w) -> (h w, c k)."""
    padded = F.pad(x, (radius,) * 4, mode="replicate")[0]
    side = 2 * radius + 1
    around = padded.unfold(1, side, 1).unfold(2, side, 1)  # (c, h, w, side, side)
    return around.permute(1, 2, 0, 3, 4).reshape(-1, len(padded) * side * side)


def summed(patches: Tensor, cells: Tensor, size: tuple[int, ...], radius: int) -> Tensor:
    """Patches (n, c k) laid around `cells` (n,) of a grid, and added up, (c, h, w).

    F.fold would need a patch for every cell of the grid.
    """
    height, width = size[0] + 2 * radius, size[1] + 2 * radius
    line = torch.arange(2 * radius + 1)
    first = cells // size[1] * width + cells % size[1]  # of a patch, in the padded grid
    at = ((line[:, None] * width + line).view(-1, 1) + first).view(-1)  # (k n)
    channels = patches.T.reshape(-1, len(at))
    sums = torch.stack([torch.zeros(height * width).index_add_(0, at, x) for x in channels])
    return sums.view(-1, height, width)[:, radius:-radius, radius:-radius]


def erode(mask: Tensor, radius: int) -> Tensor:
    """Cells whose whole patch is in the mask; the picture's own edge is not."""
    padded = F.pad(mask.float(), (radius,) * 4)[None, None]
    return -F.max_pool2d(-padded, 2 * radius + 1, 1)[0, 0] > 0.5


def dilate(mask: Tensor, radius: int) -> Tensor:
    return F.max_pool2d(mask.float()[None, None], 2 * radius + 1, 1, radius)[0, 0] > 0.5
