"""Motion as layers: a camera, a body in front of the background, and what is soft in either.

Displacements are backward and in half sides of the square (see grid.py): a frame shows at x what
its layer holds at x + u(x). Affine parts are rows of (a, b, c): u(x, y) = a x + b y + c.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BACKGROUND, SUBJECT = 0, 1


@dataclass(frozen=True)
class LayeredMotion:
    """The motion of a clip at times 1/T .. 1; at time 0 everything rests."""

    camera: Tensor  # (T, 2, 3): of the background
    body: Tensor  # (T, 2, 3): of the subject, the camera's share included
    soft: Tensor  # (2, 2, T, g, g): of background and subject, zero wherever nothing is soft


def maps(affine: Tensor) -> Tensor:
    """Where the layer is sampled: (n, 2, 3) from displacements (n, 2, 3).

    A turn given in the small, u = q (-y, x), is carried out as a turn: its linear form would also
    magnify, by 2 % at the angle of "rotate left".
    """
    linear = affine[..., :2]
    growth = (linear[..., 0, 0] + linear[..., 1, 1]) / 2
    turn = (linear[..., 1, 0] - linear[..., 0, 1]) / 2
    unit, quarter = torch.eye(2), torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    other = linear - growth[..., None, None] * unit - turn[..., None, None] * quarter
    turned = turn.cos()[..., None, None] * unit + turn.sin()[..., None, None] * quarter
    whole = (1 + growth)[..., None, None] * turned + other
    return torch.cat([whole, affine[..., 2:]], -1)
