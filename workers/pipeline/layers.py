"""Motion as layers: a camera, a body in front of the background, and what is soft in either.

Displacements are backward and in half sides of the square (see grid.py): a frame shows at x what
its layer holds at x + u(x). Affine parts are rows of (a, b, c): u(x, y) = a x + b y + c.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workers.pipeline.grid import cubic_weights, extent, grid_weights, place

# The least area that a piece of a frame shows of its layer, relative to the layer's own zoom.
# Things then become up to 1.6 times as large along both sides, or 2.5 times along one.
LEAST_AREA = 0.4
# The least area that the affine part alone may show: three times the size along both sides.
LEAST_AFFINE_AREA = 0.11
# Motion is in longest half sides. Up to 16:9 that suits both sides; on a narrower picture, what
# runs along or across the short side is reduced in proportion to it.
REFERENCE_SIDE = 9 / 16
POINTS = 33  # along each side, where the area is checked: two per cell of a square
CHECKS = 2  # moments per field at which it is checked
_STEP = 1e-3  # half sides, for slopes by central differences
BACKGROUND, SUBJECT = 0, 1


@dataclass(frozen=True)
class LayeredMotion:
    """The motion of a clip at times 1/T .. 1; at time 0 everything rests."""

    camera: Tensor  # (T, 2, 3): of the background
    body: Tensor  # (T, 2, 3): of the subject, the camera's share included
    soft: Tensor  # (2, 2, T, g, g): of background and subject, zero wherever nothing is soft
    # A camera that moves away starts inside the picture and ends at its borders (decision 87): how
    # far inside background and subject start, as multiples of how far the camera goes.
    inside: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def still(cls, times: int, cells: int) -> "LayeredMotion":
        rest = torch.zeros(times, 2, 3)
        return cls(rest, rest, torch.zeros(2, 2, times, cells, cells))

    @property
    def cells(self) -> int:
        return self.soft.shape[-1]

    @property
    def rests(self) -> bool:
        return not any(part.any() for part in (self.camera, self.body, self.soft))

    def scaled(self, strength: float) -> "LayeredMotion":
        """All motion multiplied."""
        return replace(
            self,
            camera=strength * self.camera,
            body=strength * self.body,
            soft=strength * self.soft,
        )

    def at(self, shares: Tensor) -> "LayeredMotion":
        """The motion at other moments, shares (n,) of the clip in [0, 1], interpolated smoothly."""
        times = len(self.camera)
        weights = cubic_weights(shares * times, times + 1)[:, 1:]  # it starts at rest
        return replace(
            self,
            camera=torch.einsum("nt,tij->nij", weights, self.camera),
            body=torch.einsum("nt,tij->nij", weights, self.body),
            soft=torch.einsum("nt,lctij->lcnij", weights, self.soft),
        )

    def views(self) -> tuple[float, float]:
        """How large a part of background and subject the first frame shows: 1 is the picture."""
        away = max(0.0, (self.camera[:, 0, 0] + self.camera[:, 1, 1]).amax().item() / 2)
        background, subject = (1 / (1 + share * away) for share in self.inside)
        return background, subject

    def limited(self, height: int, width: int) -> "LayeredMotion":
        """What a picture of this size in pixels bears: no folds, nothing beyond its short side.

        What is soft is shrunk by one factor per layer for the whole clip, so that its course in
        time stays as it is. Expects moments close enough to each other (see `dense`).
        """
        camera, body = (_narrowed(path, height, width) for path in (self.camera, self.body))
        soft = self.soft * min(1.0, min(extent(height, width)) / REFERENCE_SIDE)
        share = min(_affine_share(path) for path in (camera, body))
        camera, body, soft = share * camera, share * body, share * soft
        kept = []
        for path, field in zip((camera, body), soft, strict=True):
            if field.any():
                base = (torch.eye(2) + path[..., :2]).permute(1, 0, 2)[..., None, None]
                field = field * largest_share(base, slopes(field, height, width), LEAST_AREA)
            kept.append(field)
        return replace(self, camera=camera, body=body, soft=torch.stack(kept))

    def dense(self) -> "LayeredMotion":
        """The same motion at CHECKS moments per field."""
        count = CHECKS * len(self.camera)
        return self.at(torch.arange(1, count + 1) / count)


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


def _narrowed(path: Tensor, height: int, width: int) -> Tensor:
    """Less motion along the short side of a picture narrower than REFERENCE_SIDE."""
    half = extent(height, width)
    narrow = min(1.0, min(half) / REFERENCE_SIDE)
    offset = path[..., 2] * torch.tensor([min(1.0, side / REFERENCE_SIDE) for side in half])
    # A turn or a shear moves the ends of the long side along the short one; a zoom does not.
    stretch = torch.eye(2)
    linear = path[..., :2] * (stretch + (1 - stretch) * narrow)
    return torch.cat([linear, offset[..., None]], -1)


def _affine_share(path: Tensor) -> float:
    linear = path[..., :2].permute(1, 0, 2)  # (2, n, 2)
    identity = torch.eye(2)[:, None].expand_as(linear)
    return largest_share(identity, linear, LEAST_AFFINE_AREA)


def slopes(field: Tensor, height: int, width: int) -> Tensor:
    """d field / d(x, y) over the picture, (2, n, 2, POINTS, POINTS)."""
    ex, ey = extent(height, width)
    line = torch.linspace(-1, 1, POINTS)
    cells = field.shape[-1]

    def slope(at: Tensor) -> Tensor:
        rise = grid_weights(at + _STEP, cells) - grid_weights(at - _STEP, cells)
        return rise / (2 * _STEP)

    wy, wx = grid_weights(line * ey, cells), grid_weights(line * ex, cells)
    parts = [wy @ field @ slope(line * ex).T, slope(line * ey) @ field @ wx.T]
    return torch.stack(parts, 2)


def determinant(jacobian: Tensor) -> Tensor:
    """Determinants of (2, n, 2, ...) -> (n, ...)."""
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


def zoom_of(path: Tensor) -> float:
    """How many times larger than in its layer things become, along a side, at most over time.

    path (n, 2, 3)
    """
    area = determinant(maps(path)[..., :2].permute(1, 0, 2)).amin().item()
    return float(max(area, 1e-2) ** -0.5)


def displaced(path: Tensor, cells: int) -> Tensor:
    """The affine displacement at the centres of the cells, (2, n, g, g)."""
    x, y = place(cells).to(path)
    return torch.einsum("nck,kij->cnij", path, torch.stack([x, y, torch.ones_like(x)]))
