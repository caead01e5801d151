"""Guidance by picture and text: three passes per step, evaluated as one batch of three.

Brooks et al. 2022 (InstructPix2Pix, arXiv:2211.09800, eq. 3): from the unconditional prediction,
one stride towards what the picture says and one more towards what the text adds to it.
"""

import math

import torch
from torch import Tensor

from workers.pipeline.denoiser import MotionDenoiser
from workers.pipeline.sampler import time_of
from workers.pipeline.text import PAD

PASSES = 3


def low_bands(size: int, bands: int) -> Tensor:
    """The (size, size) projection onto the `bands` slowest cosines (DCT-II) of a line."""
    at = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    waves = torch.cos(math.pi * torch.arange(bands)[:, None] * at)
    waves /= waves.norm(dim=1, keepdim=True)
    return (waves.T @ waves).float()


class GuidedDenoiser:
    """denoise(x, sigma) -> x0 for the sampler, for one picture and one prompt."""

    def __init__(
        self,
        network: MotionDenoiser,
        picture: Tensor,  # (B, 3, p, p) in [-1, 1]
        tokens: Tensor,  # (B, L)
        picture_scale: float,
        text_scale: float,
        bands: int,
    ):
        none = torch.zeros_like(picture)
        silence = torch.full_like(tokens, PAD)
        self.network = network
        self.pictures = torch.cat([none, picture, picture])
        self.tokens = torch.cat([silence, silence, tokens])
        self.picture_scale = picture_scale
        self.text_scale = text_scale
        # Motion is smooth. What a prediction holds beyond is noise that it took for motion; left
        # in, it would stay to the end and make straight edges wobble.
        shape = network.config
        self.in_time = low_bands(shape.frames, bands).to(picture.device)
        self.in_space = low_bands(shape.grid, bands).to(picture.device)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x (B, 2, T, h, w) float32 = signal + sigma * noise. Returns the guided x0, float32."""
        time = time_of(sigma).to(x.device, torch.float32)
        # Both carry unit variance into the network: signal^2 + noise^2 = 1.
        signal = (1 / (1 + sigma**2).sqrt()).item()
        noise = signal * sigma.item()
        scaled = x * signal
        dtype = self.network.unet.conv_in.weight.dtype
        v = self.network(
            scaled.to(dtype).repeat(PASSES, 1, 1, 1, 1),
            time.expand(PASSES * len(x)),
            self.pictures.to(dtype),
            self.tokens,
        ).float()
        bare, seen, told = (scaled.repeat(PASSES, 1, 1, 1, 1) * signal - v * noise).chunk(PASSES)
        guided = bare + self.picture_scale * (seen - bare) + self.text_scale * (told - seen)
        b, c, t, h, w = guided.shape
        guided = self.in_space @ guided @ self.in_space
        return (self.in_time @ guided.reshape(b, c, t, h * w)).reshape(b, c, t, h, w)
