"""Layered motions and pictures made of layers, whose truth is known."""

import numpy as np
import torch

from workers.pipeline.layers import LayeredMotion

TIMES, CELLS = 8, 16


def affine(growth=0.0, turn=0.0, x=0.0, y=0.0):
    """The displacement of a similarity, (2, 3)."""
    return torch.tensor([[growth, -turn, x], [turn, growth, y]])


def affine_clip(body=None, soft=None, **camera):
    """A motion that grows evenly; body: what the subject does instead of the camera's motion."""
    share = torch.arange(1, TIMES + 1)[:, None, None] / TIMES
    end = affine(**camera)
    own = end if body is None else affine(**body)
    if soft is None:
        soft = torch.zeros(2, 2, TIMES, CELLS, CELLS)
    return LayeredMotion(share * end, share * own, soft)


def still():
    return LayeredMotion.still(TIMES, CELLS)


def textured(height, width, seed=0):
    """Grey texture of mid-sized grains, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(0, 1, (height // 4 + 2, width // 4 + 2))
    rows = np.linspace(0, rough.shape[0] - 1.001, height)
    columns = np.linspace(0, rough.shape[1] - 1.001, width)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], (columns - left)[None]
    smooth = (
        rough[np.ix_(top, left)] * (1 - down) * (1 - right)
        + rough[np.ix_(top + 1, left)] * down * (1 - right)
        + rough[np.ix_(top, left + 1)] * (1 - down) * right
        + rough[np.ix_(top + 1, left + 1)] * down * right
    )
    grey = np.clip(128 + 25 * smooth, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


def disc(height, radius, width=None, edge=1.0):
    """The matte of a disc in the middle, (height, width) float32."""
    width = height if width is None else width
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(x - width / 2, y - height / 2) - radius
    return np.clip(0.5 - distance / (2 * edge), 0, 1).astype(np.float32)


def two_layers(side=128, edge=1.0, noise=1):
    """A red disc before grey texture, and its matte."""
    matte = disc(side, side * 90 / 512 if side >= 512 else side * 0.195, edge=edge)
    ground = textured(side, side) if noise else np.full((side, side, 3), 128, np.uint8)
    red = np.zeros_like(ground)
    red[...] = (200, 40, 40)
    mixed = matte[..., None] * red + (1 - matte[..., None]) * ground
    return mixed.round().astype(np.uint8), matte
