"""Affine paths: what a camera or a rigid body does over time.

A path is (..., T, 2, 3): at each moment a displacement in half sides, u(x) = A @ [x, y, 1], with
turns given in the small (see `layers.maps`). On the grid it is a field (..., 2, T, g, g).
"""

from functools import cache

import torch
from torch import Tensor

from workers.pipeline.grid import place
from workers.pipeline.layers import maps


def basis(cells: int) -> Tensor:
    """The fields of the three coefficients, (3, g, g): x, y and 1 at the centres of the cells.

    They are orthogonal, because the grid is centred.
    """
    centres = place(cells)
    return torch.cat([centres, torch.ones_like(centres[:1])])


@cache
def basis_like(cells: int, place: torch.device, dtype: torch.dtype) -> Tensor:
    """`basis`, made once: on a GPU, a copy in every step would wait for the steps before."""
    with torch.inference_mode(False):
        return basis(cells).to(place, dtype)


def to_fields(path: Tensor, cells: int) -> Tensor:
    """(..., T, 2, 3) -> (..., 2, T, g, g), channel 0 along x."""
    return torch.einsum("...tck,kyx->...ctyx", path, basis_like(cells, path.device, path.dtype))


def to_path(fields: Tensor) -> Tensor:
    """The path nearest to fields (..., 2, T, g, g) in least squares, (..., T, 2, 3)."""
    modes = basis_like(fields.shape[-1], fields.device, fields.dtype)
    modes = modes / modes.square().sum((1, 2), keepdim=True)
    return torch.einsum("...ctyx,kyx->...tck", fields, modes)


def displacements(mapped: Tensor) -> Tensor:
    """The inverse of `layers.maps`."""
    linear = mapped[..., :2]
    cos = (linear[..., 0, 0] + linear[..., 1, 1]) / 2
    sin = (linear[..., 1, 0] - linear[..., 0, 1]) / 2
    size, turn = torch.hypot(cos, sin), torch.atan2(sin, cos)
    unit = torch.eye(2).to(mapped)
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).to(mapped)
    other = linear - cos[..., None, None] * unit - sin[..., None, None] * quarter
    small = (size - 1)[..., None, None] * unit + turn[..., None, None] * quarter + other
    return torch.cat([small, mapped[..., 2:]], -1)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The path that samples where `inner` does from where `outer` does.

    A body in front of a moving camera: outer is the camera's path, inner the body's own.
    """
    first, then = maps(outer), maps(inner)
    linear = then[..., :2] @ first[..., :2]
    offset = then[..., :2] @ first[..., 2:] + then[..., 2:]
    return displacements(torch.cat([linear, offset], -1))


def inverse(path: Tensor) -> Tensor:
    """The path that undoes another: compose(path, inverse(path)) rests.

    Raises RuntimeError for a path that flattens the plane.
    """
    mapped = maps(path)
    back = torch.linalg.inv(mapped[..., :2])
    return displacements(torch.cat([back, -back @ mapped[..., 2:]], -1))


def from_origin(path: Tensor, centre: Tensor) -> Tensor:
    """A path given around a centre (..., 2) as a path around the origin.

    path (..., T, 2, 3). It maps x to centre + maps(path) @ [x - centre, 1].
    """
    return _moved(path, centre[..., None, :, None])


def around(path: Tensor, centre: Tensor) -> Tensor:
    """The inverse of `from_origin`."""
    return _moved(path, -centre[..., None, :, None])


def _moved(path: Tensor, by: Tensor) -> Tensor:
    linear = maps(path)[..., :2]
    return torch.cat([path[..., :2], path[..., 2:] + by - linear @ by], -1)
