"""From motion fields to frames: the picture, warped at its own resolution.

A clip of motion is (2, T, g, g): backward displacements at times 1/T .. 1, in half sides of a
square. The picture lies in the middle of that square, whose side is its longest side. So one unit
is equally long along x and y, and a rotation stays a rotation on a picture of any shape.
"""

import math
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
    """The network's input picture: (H, W, 3) uint8 -> (3, side, side) in [-1, 1].

    Averages areas, and mirrors the picture where it does not fill the square.
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


def keep_inside(motion: Tensor, height: int, width: int) -> Tensor:
    """Zoom in just far enough to hide what the motion would show beyond the picture's edges.

    motion (2, K, g, g) with knot 0 at time 0. The zoom starts at nothing and never decreases. It
    does not hide what a zoom out shows beyond all four edges: that would undo the zoom out.
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


# BT.709, limited range (Rec. ITU-R BT.709-6, items 3.2 to 3.4 and 4.6): Y, Cb, Cr from R, G, B.
_LUMA = (0.2126, 0.7152, 0.0722)
_BT709 = torch.tensor(
    [
        [219 / 255 * k for k in _LUMA],
        [224 / 255 * k / 1.8556 for k in (-_LUMA[0], -_LUMA[1], 1 - _LUMA[2])],
        [224 / 255 * k / 1.5748 for k in (1 - _LUMA[0], -_LUMA[1], -_LUMA[2])],
    ]
)


def to_yuv420(picture: np.ndarray) -> tuple[Tensor, Tensor]:
    """(H, W, 3) uint8 RGB -> luma (1, H, W) and chroma (2, H / 2, W / 2), float32, rounded.

    An odd side gets one more row or column, a copy of the last.
    """
    pixels = torch.tensor(picture).permute(2, 0, 1).float()
    height, width = picture.shape[:2]
    pixels = F.pad(pixels[None], (0, width % 2, 0, height % 2), mode="replicate")[0]
    luma, *colour = torch.einsum("kc,chw->khw", _BT709, pixels)
    chroma = F.avg_pool2d(torch.stack(colour)[None], 2)[0]
    return (luma[None] + 16).round(), (chroma + 128).round()


# Frames that are warped together: grid_sample gives each of its threads whole frames.
TOGETHER = 4
TOGETHER_PIXELS = 4_000_000  # limits the memory that large pictures take


class _Layer:
    """Channels of one resolution, and the positions of their samples in the square."""

    def __init__(self, pixels: Tensor, cells: int, reach: float, device: torch.device):
        """pixels (C, h, w) float32; `cells`: the side of the motion fields; `reach`: the longest
        displacement along an axis, in half sides."""
        height, width = pixels.shape[1:]
        ex, ey = extent(height, width)
        xs = ((torch.arange(width) + 0.5) / width * 2 - 1) * ex
        ys = ((torch.arange(height) + 0.5) / height * 2 - 1) * ey
        self.pixels = pixels.to(device)
        self.rows = grid_weights(ys, cells).to(device)  # (h, g)
        self.columns = grid_weights(xs, cells).to(device)  # (w, g)
        # Mirrored once, as far as samples reach (bicubic: two pixels further). grid_sample's own
        # mirroring of every tap takes half as long again.
        margin = min(math.ceil(reach * max(height, width) / 2) + 3, max(height, width))
        padded = np.pad(pixels.numpy(), [(0, 0), (margin, margin), (margin, margin)], "symmetric")
        self.padded = torch.from_numpy(padded)[None].to(device)
        self.xs, self.ys = xs.to(device), ys.to(device)
        # Scales positions so that the padded picture's edge is 1.
        self.half = (ex * (1 + 2 * margin / width), ey * (1 + 2 * margin / height))

    def warp(self, moves: Tensor) -> np.ndarray:
        """Sample at positions displaced by moves (n, 2, g, g): (n, C, h, w) uint8."""
        u = self.rows @ moves @ self.columns.T  # (n, 2, h, w)
        at = torch.empty((len(u), *u.shape[2:], 2), device=u.device)
        torch.add(u[:, 0], self.xs, out=at[..., 0]).div_(self.half[0])
        torch.add(u[:, 1], self.ys[:, None], out=at[..., 1]).div_(self.half[1])
        warped = F.grid_sample(
            self.padded.expand(len(u), -1, -1, -1),
            at,
            mode="bicubic",
            padding_mode="border",
            align_corners=False,
        )
        return warped.round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()


class Warp:
    """Frames of one picture under one motion, made one at a time."""

    def __init__(
        self,
        picture: np.ndarray,
        motion: Tensor,
        frames: int,
        *,
        loop: bool = False,
        yuv: bool = False,
    ):
        """picture (H, W, 3) uint8; motion (2, T, g, g) in half sides, float32.

        With `loop` the motion goes there and back, slowing down at both ends. With `yuv` the
        picture is converted to YUV 4:2:0 once, which halves the work of warping and spares the encoder a
        conversion per frame; frames are then (H * 3 / 2, W) uint8: Y, below it U, then V.
        """
        height, width = picture.shape[:2]
        from_rest = torch.cat([torch.zeros_like(motion[:, :1]), motion], 1).cpu()  # u_0 = 0
        knots = keep_inside(from_rest, height, width)
        if loop:  # the frame after the last is frame 0 again
            share = (1 - torch.cos(torch.arange(frames) * (2 * math.pi / frames))) / 2
        else:
            share = torch.linspace(0, 1, frames)
        weights = cubic_weights(share * (knots.shape[1] - 1), knots.shape[1])
        self.moves = torch.einsum("fk,ckij->fcij", weights, knots).to(motion.device)
        self.yuv = yuv
        parts = to_yuv420(picture) if yuv else (torch.tensor(picture).permute(2, 0, 1).float(),)
        cells, reach = motion.shape[-1], self.moves.abs().max().item()
        self.layers = [_Layer(part, cells, reach, motion.device) for part in parts]
        self.together = max(1, min(TOGETHER, TOGETHER_PIXELS // (height * width)))

    def __iter__(self) -> Iterator[np.ndarray]:
        # The picture itself, bit for bit: a warp by zero might round.
        yield self._joined([layer.pixels.byte().cpu().numpy() for layer in self.layers])
        for moves in torch.split(self.moves[1:], self.together):
            # Only around the calls: the mode belongs to the thread, not to this generator.
            with torch.inference_mode():
                warped = [layer.warp(moves) for layer in self.layers]
            for parts in zip(*warped, strict=True):
                yield self._joined(list(parts))

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        if not self.yuv:
            return parts[0].transpose(1, 2, 0)
        width = parts[0].shape[-1]
        return np.concatenate([part.reshape(-1) for part in parts]).reshape(-1, width)
