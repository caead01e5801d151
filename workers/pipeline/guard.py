"""Keeps a motion within what a sheet can do: no folds, and no more than the picture's shape bears.

A motion is split into what a camera does (an affine map of the whole picture, at each moment) and
the rest, which bends. Only the rest is shrunk where the sheet would fold, so pans, zooms and
rotations keep their strength.
"""

import torch
from torch import Tensor

from workers.pipeline.grid import extent, grid_weights, place

# The least area that a piece of a frame shows of the picture, relative to the camera's own zoom.
# Things then become up to 1.6 times as large along both sides, or 2.5 times along one.
LEAST_AREA = 0.4
# The least area that the camera alone may show: three times the size along both sides.
LEAST_CAMERA_AREA = 0.11
# Motion is in longest half sides. Up to 16:9 that suits both sides; on a narrower picture, what
# runs along or across the short side is reduced in proportion to it.
REFERENCE_SIDE = 9 / 16
POINTS = 33  # along each side, where the area is checked: two per cell of a square
FIT_POINTS = 17  # along each side, where the camera is fitted
RIM = 0.7  # the fit leaves out points nearer to the middle than this, in half sides
FIT_ROUNDS = 6
FIT_FLOOR = 1e-3  # half sides; closer to the camera, all points count alike
_STEP = 1e-3  # half sides, for slopes by central differences


def tame(path: Tensor, height: int, width: int) -> Tensor:
    """The motion without folds, and limited by the sides of a picture of this size in pixels.

    path (2, K, g, g): displacements in half sides at K moments. One factor holds for all moments,
    so the course of a motion in time stays as it is.
    """
    half = extent(height, width)
    offset, linear, rest = split(path, height, width)
    narrow = min(1.0, min(half) / REFERENCE_SIDE)
    offset = offset * torch.tensor([min(1.0, side / REFERENCE_SIDE) for side in half])[:, None]
    # A rotation or a shear moves the ends of the long side along the short one; a zoom does not.
    stretch = torch.eye(2)[:, None]
    linear = linear * (stretch + (1 - stretch) * narrow)
    rest = rest * narrow

    identity = torch.eye(2)[:, None].expand_as(linear)
    share = largest_share(identity, linear, LEAST_CAMERA_AREA)
    offset, linear, rest = share * offset, share * linear, share * rest
    camera = (identity + linear)[..., None, None]
    rest = rest * largest_share(camera, slopes(rest, height, width), LEAST_AREA)
    return affine(offset, linear, path.shape[-1]) + rest


def split(path: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The offset (2, K), the linear part (2, K, 2) and the rest (2, K, g, g) of a motion.

    Fits what most of the picture's rim does, where few bodies reach: what moves by itself is no
    camera. What lies around the picture in the square is never seen.
    """
    ys, xs = _lines(height, width, FIT_POINTS)
    cells = path.shape[-1]
    seen = torch.einsum("yi,ckij,xj->ckyx", grid_weights(ys, cells), path, grid_weights(xs, cells))
    seen = seen.flatten(2).double()  # (2, K, n)
    y, x = torch.meshgrid(ys / ys[-1], xs / xs[-1], indexing="ij")
    basis = torch.stack([torch.ones(x.numel()), x.flatten(), y.flatten()]).double()  # (3, n)
    rim = basis[1:].abs().amax(0) > RIM
    weight = rim.double()
    for _ in range(FIT_ROUNDS):  # least absolute deviations, by reweighted least squares
        fit = torch.linalg.solve((basis * weight) @ basis.T, basis * weight)  # (3, n)
        found = seen @ fit.T  # (2, K, 3)
        away = (seen - found @ basis).square().sum(0).mean(0).sqrt()  # (n,), over time
        weight = rim / (away + FIT_FLOOR)
    found = found.float()
    offset, linear = found[..., 0], found[..., 1:] / torch.stack([xs[-1], ys[-1]])
    return offset, linear, path - affine(offset, linear, cells)


def affine(offset: Tensor, linear: Tensor, cells: int) -> Tensor:
    """The affine displacement (2, K, g, g) at the centres of the cells."""
    return offset[..., None, None] + torch.einsum("ckd,dij->ckij", linear, place(cells))


def slopes(path: Tensor, height: int, width: int) -> Tensor:
    """d path / d(x, y) over the picture, (2, K, 2, POINTS, POINTS)."""
    ys, xs = _lines(height, width, POINTS)
    cells = path.shape[-1]

    def slope(at: Tensor) -> Tensor:
        rise = grid_weights(at + _STEP, cells) - grid_weights(at - _STEP, cells)
        return rise / (2 * _STEP)

    wy, wx = grid_weights(ys, cells), grid_weights(xs, cells)
    parts = [wy @ path @ slope(xs).T, slope(ys) @ path @ wx.T]
    return torch.stack(parts, 2)


def determinant(jacobian: Tensor) -> Tensor:
    """Determinants of (2, K, 2, ...) -> (K, ...)."""
    return jacobian[0, :, 0] * jacobian[1, :, 1] - jacobian[0, :, 1] * jacobian[1, :, 0]


def largest_share(base: Tensor, added: Tensor, least: float) -> float:
    """The largest share s in [0, 1] for which det(base + s' added) >= least * det(base).

    Holds for all s' up to s, at every moment and point. Arguments as for `determinant`.
    """
    # det(base + s added) - least det(base) = a s^2 + b s + c, with c > 0.
    a, whole = determinant(added), determinant(base)
    b = determinant(base + added) - a - whole
    c = (1 - least) * whole
    root = (b * b - 4 * a * c).clamp(min=0).sqrt()
    # The smallest positive solution in the form that does not cancel. Without one, no limit.
    first = torch.where((b * b >= 4 * a * c) & (root > b), 2 * c / (root - b), torch.inf)
    return min(1.0, first.amin().item())


def _lines(height: int, width: int, points: int) -> tuple[Tensor, Tensor]:
    """Points along y and x, from edge to edge of the picture in its square."""
    ex, ey = extent(height, width)
    line = torch.linspace(-1, 1, points)
    return line * ey, line * ex
