"""Noise as smooth as motion.

Motion fields are smooth. Under white noise their few slow components stay visible long after the
fast ones have drowned, and most noise levels teach nothing about what moves where. So the noise has
the spectrum of motion: at every level, all components are equally uncertain. Samples are then
smooth by construction, and a noise ratio of a few tens hides everything.
"""

import math

import torch
from torch import Tensor

from workers.pipeline.affine import basis, to_fields
from workers.pipeline.layer_state import AFFINE_LAYERS, SOFT_LAYERS

# 1 / (1 + kx^2 + ky^2 + TIME * kt^2): fitted to the spectrum of 400 procedural scenes.
TIME = 0.7


def cosines(size: int) -> Tensor:
    """The orthonormal DCT-II matrix (size, size): row k is the k-th cosine of a line."""
    at = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    waves = torch.cos(math.pi * torch.arange(size)[:, None] * at)
    orthonormal: Tensor = waves / waves.norm(dim=1, keepdim=True)
    return orthonormal.float()


class MotionNoise:
    """Draws noise (B, 2, T, g, g), of unit variance on average, and whitens fields like it."""

    def __init__(self, frames: int, grid: int, device: torch.device | str = "cpu"):
        kt = torch.arange(frames, dtype=torch.float32)[:, None, None]
        k = torch.arange(grid, dtype=torch.float32)
        strength = 1 / (1 + k[:, None] ** 2 + k**2 + TIME * kt**2)  # (T, g, g)
        self.strength = (strength / strength.square().mean().sqrt()).to(device)
        self.time, self.space = cosines(frames).to(device), cosines(grid).to(device)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise for `count` clips, (count, 2, T, g, g). Drawn on the generator's device."""
        shape = (count, 2, *self.strength.shape)
        white = torch.randn(shape, generator=generator, device=generator.device)
        x = white.to(self.strength.device) * self.strength
        x = self.space.T @ x @ self.space
        return torch.einsum("kt,bckyx->bctyx", self.time, x)

    def whiten(self, x: Tensor, power: float = 1.0) -> Tensor:
        """Components of x, (B, 2, T, g, g), divided by the noise's own strength ** power."""
        x = torch.einsum("kt,bctyx->bckyx", self.time, self.space @ x @ self.space.T)
        return x / self.strength**power


class LayeredNoise:
    """Noise for the state of a layered motion, (B, 8, T, g, g) (see layer_state.py).

    In the channels of camera and body it is affine, as their motion is: six coefficients at each
    moment, as smooth in time as MotionNoise. Everything has unit variance on average.
    """

    def __init__(self, frames: int, grid: int, device: torch.device | str = "cpu"):
        self.frames, self.grid = frames, grid
        self.soft = MotionNoise(frames, grid, device)
        kt = torch.arange(frames, dtype=torch.float32)
        strength = 1 / (1 + TIME * kt**2)
        self.strength = (strength / strength.square().mean().sqrt()).to(device)
        modes = basis(grid)
        # A coefficient of each kind moves the field by as much, on average.
        self.unit = (1 / (3 * modes.square().mean((1, 2))).sqrt()).to(device)  # (3,)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise for `count` clips, (count, 8, T, g, g). Drawn on the generator's device."""
        return torch.cat([self.affine(count, generator), self.residual(count, generator)], 1)

    def affine(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise for camera and body, (count, 4, T, g, g)."""
        shape = (count, AFFINE_LAYERS, self.frames, 2, 3)
        white = torch.randn(shape, generator=generator, device=generator.device)
        white = white.to(self.unit.device) * self.strength[:, None, None]
        path = torch.einsum("kt,blkcm->bltcm", self.soft.time, white) * self.unit
        return to_fields(path, self.grid).flatten(1, 2)

    def residual(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise for what is soft, (count, 4, T, g, g)."""
        return torch.cat([self.soft.draw(count, generator) for _ in range(SOFT_LAYERS)], 1)
