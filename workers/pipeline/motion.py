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

from workers.pipeline.borders import NONE_FLAT, Sides, flat_sides, keep_inside
from workers.pipeline.grid import cubic_weights, extent, grid_weights
from workers.pipeline.guard import determinant, split, tame
from workers.pipeline.picture import Picture
from workers.pipeline.yuv import LEFT, to_yuv420


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


# Frames that are warped together: grid_sample gives each of its threads whole frames.
TOGETHER = 4
TOGETHER_PIXELS = 4_000_000  # limits the memory that large pictures take


class _Layer:
    """Channels of one resolution, sampled at the positions of a frame's samples."""

    def __init__(
        self,
        pixels: Tensor,
        shape: torch.Size,
        cells: int,
        reach: float,
        device: torch.device,
        *,
        flat: Sides = NONE_FLAT,
        sited: float = 0.0,
    ):
        """pixels (C, h, w) float32; `shape`: height and width of its frames; `cells`: the side of
        the motion fields; `reach`: the longest displacement along an axis, in half sides; `flat`:
        sides to continue in their colour; `sited`: samples lie so far right of their middles, in
        samples."""
        height, width = shape
        have_y, have_x = pixels.shape[1:]
        ex, ey = extent(height, width)
        xs = ((torch.arange(width) + 0.5 + sited) / width * 2 - 1) * ex
        ys = ((torch.arange(height) + 0.5) / height * 2 - 1) * ey
        self.rows = grid_weights(ys, cells).to(device)  # (h, g)
        self.columns = grid_weights(xs, cells).to(device)  # (w, g)
        # Continued once, as far as samples reach (bicubic: two pixels further). grid_sample's own
        # mirroring of every tap takes half as long again.
        longest = max(have_y, have_x)
        margin = min(math.ceil(reach * longest / 2) + 3, longest)
        self.padded = torch.from_numpy(_continued(pixels.numpy(), margin, flat))[None].to(device)
        self.xs, self.ys = xs.to(device), ys.to(device)
        # Scales positions so that the padded picture's edge is 1.
        self.half = (ex * (1 + 2 * margin / have_x), ey * (1 + 2 * margin / have_y))
        # grid_sample takes samples to be in their middles.
        self.shift = -2 * sited / (have_x + 2 * margin)

    def warp(self, moves: Tensor) -> np.ndarray:
        """Sample at positions displaced by moves (n, 2, g, g): (n, C, h, w) uint8."""
        u = self.rows @ moves @ self.columns.T  # (n, 2, h, w)
        at = torch.empty((len(u), *u.shape[2:], 2), device=u.device)
        torch.add(u[:, 0], self.xs, out=at[..., 0]).div_(self.half[0])
        torch.add(u[:, 1], self.ys[:, None], out=at[..., 1]).div_(self.half[1])
        if self.shift:
            at[..., 0] += self.shift
        warped = F.grid_sample(
            self.padded.expand(len(u), -1, -1, -1),
            at,
            mode="bicubic",
            padding_mode="border",
            align_corners=False,
        )
        return warped.round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()


def _continued(pixels: np.ndarray, margin: int, flat: Sides) -> np.ndarray:
    """Pixels (C, h, w) with a margin all round: mirrored, or a flat side's own colour."""
    for axis, ends in ((1, (flat.top, flat.bottom)), (2, (flat.left, flat.right))):
        for end, is_flat in enumerate(ends):
            pad = [(0, 0), (0, 0), (0, 0)]
            pad[axis] = (0, margin) if end else (margin, 0)
            pixels = np.pad(pixels, pad, mode="edge" if is_flat else "symmetric")
    return pixels


# Moments between two fields at which folds and borders are checked.
CHECKS = 2


class Warp:
    """Frames of one picture under one motion, made one at a time."""

    def __init__(
        self,
        picture: np.ndarray | Picture,
        motion: Tensor,
        frames: int,
        *,
        loop: bool = False,
        yuv: bool = False,
    ):
        """picture (H, W, 3) uint8, or a Picture that may hold more pixels; motion (2, T, g, g) in
        half sides, float32.

        The motion is first limited to what the picture bears (see guard.py) and kept inside its
        edges. With `loop` it goes there and back, slowing down at both ends. With `yuv` the
        picture is converted to YUV 4:2:0 once, which halves the work of warping and spares the
        encoder a conversion per frame; frames are then (H * 3 / 2, W) uint8: Y, below it U, then V.
        """
        if not isinstance(picture, Picture):
            picture = Picture(picture)
        height, width = picture.pixels.shape[:2]
        flat = flat_sides(picture.pixels)
        knots = path_of(motion, height, width, flat)
        if loop:  # the frame after the last is frame 0 again
            share = (1 - torch.cos(torch.arange(frames) * (2 * math.pi / frames))) / 2
        else:
            share = torch.linspace(0, 1, frames)
        weights = cubic_weights(share * (knots.shape[1] - 1), knots.shape[1])
        self.moves = torch.einsum("fk,ckij->fcij", weights, knots).to(motion.device)
        self.yuv = yuv
        self.first = _parts(picture.pixels, yuv)
        sharper = picture.magnified(zoom_of(knots, height, width))
        sources = self.first if sharper is picture.pixels else _parts(sharper, yuv)
        cells, reach = motion.shape[-1], self.moves.abs().max().item()
        sited = (0.0, LEFT) if yuv else (0.0,)
        self.layers = [
            _Layer(source, part.shape[1:], cells, reach, motion.device, flat=flat, sited=at)
            for source, part, at in zip(sources, self.first, sited, strict=True)
        ]
        self.together = max(1, min(TOGETHER, TOGETHER_PIXELS // (height * width)))

    def __iter__(self) -> Iterator[np.ndarray]:
        # The picture itself, bit for bit: a warp by zero might round.
        yield self._joined([part.byte().numpy() for part in self.first])
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


def path_of(motion: Tensor, height: int, width: int, flat: Sides = NONE_FLAT) -> Tensor:
    """The motion as a picture of this size shows it, (2, K, g, g), from rest at knot 0.

    motion (2, T, g, g) at times 1/T .. 1; K = CHECKS * T + 1.
    """
    from_rest = torch.cat([torch.zeros_like(motion[:, :1]), motion], 1).cpu().float()  # u_0 = 0
    fields = from_rest.shape[1]
    moments = torch.linspace(0, fields - 1, CHECKS * (fields - 1) + 1)
    knots = torch.einsum("nk,ckij->cnij", cubic_weights(moments, fields), from_rest)
    return keep_inside(tame(knots, height, width), height, width, flat)


def zoom_of(path: Tensor, height: int, width: int) -> float:
    """How many times larger than in the picture things become, along a side, at most over time."""
    _, linear, _ = split(path, height, width)
    area = determinant(linear + torch.eye(2)[:, None]).amin().item()
    return 1 / math.sqrt(max(area, 1e-2))


def _parts(picture: np.ndarray, yuv: bool) -> tuple[Tensor, ...]:
    """The picture's layers, (C, h, w) float32 each: RGB, or Y and UV."""
    return to_yuv420(picture) if yuv else (torch.tensor(picture).permute(2, 0, 1).float(),)
