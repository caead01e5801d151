"""Where a picture lies in the square of motion, and what the motion is between its cells."""

import torch
from torch import Tensor


def extent(height: int, width: int) -> tuple[float, float]:
    """The picture's half width and half height in the square, at most 1 each."""
    longest = max(height, width)
    return width / longest, height / longest


def cubic_weights(at: Tensor, knots: int) -> Tensor:
    """Catmull-Rom weights (len(at), knots) for positions between knots 0 .. knots - 1.

    Extrapolates in a straight line beyond the first and the last knot.
    """
    left = at.floor().clamp(0, knots - 2)
    t = (at - left).double()
    inside = t.clamp(0, 1)
    powers = torch.stack([torch.ones_like(inside), inside, inside**2, inside**3], 1)
    basis = torch.tensor(
        [[0, -0.5, 1, -0.5], [1, 0, -2.5, 1.5], [0, 0.5, 2, -1.5], [0, 0, -0.5, 0.5]],
        dtype=torch.float64,
    )
    local = powers @ basis.T  # of the knots left - 1 .. left + 2
    beyond = t - inside
    weights = torch.zeros(len(at), knots + 2, dtype=torch.float64)
    weights.scatter_add_(1, left.long()[:, None] + torch.arange(4), local)
    # The missing neighbours of the first and the last knot continue a straight line.
    out = weights[:, 1:-1].clone()
    out[:, 0] += 2 * weights[:, 0]
    out[:, 1] -= weights[:, 0]
    out[:, -1] += 2 * weights[:, -1]
    out[:, -2] -= weights[:, -1]
    # Beyond the ends, the slope of the outermost cell.
    out[:, 0] += torch.where(beyond < 0, -beyond, 0.0)
    out[:, 1] -= torch.where(beyond < 0, -beyond, 0.0)
    out[:, -1] += torch.where(beyond > 0, beyond, 0.0)
    out[:, -2] -= torch.where(beyond > 0, beyond, 0.0)
    return out.float()


def grid_weights(points: Tensor, cells: int) -> Tensor:
    """Weights (len(points), cells) from cell centres to points in [-1, 1]."""
    return cubic_weights((points + 1) / 2 * cells - 0.5, cells)


def place(cells: int) -> Tensor:
    """The centres of the cells in the square, (2, g, g); channel 0 is x."""
    line = (torch.arange(cells) + 0.5) / cells * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y])
