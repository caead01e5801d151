"""From motion fields to frames: the picture, warped at its own resolution.

A clip of motion is (2, T, g, g): backward displacements at times 1/T .. 1 over a square whose side
is the picture's longest side, in half sides; the picture lies in its middle. One unit is therefore
as long along x as along y, and a rotation stays one on a picture of any shape.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def extent(height: int, width: int) -> tuple[float, float]:
    """The picture's half width and half height in the square, at most 1 each."""
    longest = max(height, width)
    return width / longest, height / longest


def picture_in_square(picture: np.ndarray, side: int) -> Tensor:
    """What the network sees of a picture: (H, W, 3) uint8 -> (3, side, side) in [-1, 1].

    Reduced by area, and mirrored at the edges where it does not fill the square.
    """
    height, width = picture.shape[:2]
    ex, ey = extent(height, width)
    small = (max(1, round(side * ey)), max(1, round(side * ex)))
    pixels = torch.tensor(picture).permute(2, 0, 1)[None].float()
    pixels = F.interpolate(pixels, small, mode="area")[0] / 127.5 - 1
    missing = [(side - n) // 2 for n in small]
    pads = [(n, side - n - have) for n, have in zip(missing, small, strict=True)]
    return torch.from_numpy(np.pad(pixels.numpy(), [(0, 0), *pads], mode="symmetric"))


def cubic_weights(at: Tensor, knots: int) -> Tensor:
    """Catmull-Rom weights (len(at), knots) for positions between knots 0 .. knots - 1.

    Goes on in a straight line beyond the first and the last knot.
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
    # The neighbours that the first and the last knot lack lie on a straight line.
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


def keep_inside(motion: Tensor, height: int, width: int) -> Tensor:
    """Zoom in just as far as the motion would show what lies beyond the picture's edges.

    motion (2, K, g, g) with knot 0 at time 0. The zoom starts at none and never goes back. What a
    zoom out shows beyond all four edges stays: undoing that would undo the zoom out.
    """
    cells = motion.shape[-1]
    half = torch.tensor(extent(height, width))
    # Displaced positions of points along the edges, in half pictures: (2, K, 17, 17).
    line = torch.linspace(-1, 1, 17)
    wx, wy = grid_weights(line * half[0], cells), grid_weights(line * half[1], cells)
    moved = torch.einsum("yi,ckij,xj->ckyx", wy, motion, wx)
    y, x = torch.meshgrid(line * half[1], line * half[0], indexing="ij")
    at = (moved + torch.stack([x, y])[:, None]) / half[:, None, None, None]  # in half pictures
    sides = [-at[0, :, :, 0], at[0, :, :, -1], -at[1, :, 0], at[1, :, -1]]  # (K, 17) each
    furthest = torch.stack([side.amax(1) for side in sides]).amax(0) - 1
    everywhere = torch.stack([side.mean(1) for side in sides]).amin(0) - 1
    beyond = (furthest - everywhere.clamp(min=0)).clamp(min=0).cummax(0).values  # (K,)
    zoom = 1 / (1 + beyond)[:, None, None]
    line = (torch.arange(cells) + 0.5) / cells * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    place = torch.stack([x, y])[:, None]
    return (place + motion) * zoom - place


class Warp:
    """Frames of one picture under one motion. Memory: two frames in float32."""

    def __init__(self, picture: np.ndarray, motion: Tensor, frames: int):
        """picture (H, W, 3) uint8; motion (2, T, g, g) in half sides, float32."""
        height, width = picture.shape[:2]
        device = motion.device
        still = torch.cat([torch.zeros_like(motion[:, :1]), motion], 1).cpu()  # u_0 = 0
        knots = keep_inside(still, height, width)
        at = torch.linspace(0, knots.shape[1] - 1, frames)
        moves = torch.einsum("fk,ckij->fcij", cubic_weights(at, knots.shape[1]), knots)
        ex, ey = extent(height, width)
        xs = ((torch.arange(width) + 0.5) / width * 2 - 1) * ex
        ys = ((torch.arange(height) + 0.5) / height * 2 - 1) * ey
        self.picture = picture
        self.pixels = torch.tensor(picture, device=device)
        self.pixels = self.pixels.permute(2, 0, 1)[None].float()
        self.moves = moves.to(device)  # (F, 2, g, g)
        self.rows = grid_weights(ys, motion.shape[-1]).to(device)  # (H, g)
        self.columns = grid_weights(xs, motion.shape[-1]).to(device)  # (W, g)
        self.xs, self.ys, self.half = xs.to(device), ys.to(device), (ex, ey)

    @torch.inference_mode()
    def frame(self, number: int) -> np.ndarray:
        """Frame `number`, (H, W, 3) uint8."""
        u = self.rows @ self.moves[number] @ self.columns.T  # (2, H, W)
        at = torch.empty((1, *u.shape[1:], 2), device=u.device)
        torch.add(u[0], self.xs, out=at[0, :, :, 0]).div_(self.half[0])
        torch.add(u[1], self.ys[:, None], out=at[0, :, :, 1]).div_(self.half[1])
        warped = F.grid_sample(
            self.pixels, at, mode="bicubic", padding_mode="reflection", align_corners=False
        )
        return warped[0].round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    def __iter__(self) -> Iterator[np.ndarray]:
        yield self.picture.copy()  # bit for bit, whatever rounding a warp by zero may do
        for number in range(1, len(self.moves)):
            yield self.frame(number)
