"""Turns the network's output into the sampler's x0: one pass per step, or three with guidance.

Guidance follows Brooks et al. 2022 (InstructPix2Pix, arXiv:2211.09800, eq. 3): it starts from the
unconditional prediction, moves towards the picture's and then towards that of picture and text. All
three passes run as one batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from workers.pipeline.denoiser import MotionDenoiser, OnePass, join
from workers.pipeline.loader import Sampling
from workers.pipeline.sampler import time_of
from workers.pipeline.text import PAD

GUIDED_PASSES = 3
RunPass = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class ClipDenoiser:
    """denoise(x, sigma) -> x0. Encodes its pictures and prompts once."""

    def __init__(
        self,
        network: MotionDenoiser,
        picture: Tensor,  # (B, 3, p, p) in [-1, 1]
        tokens: Tensor,  # (B, L, PIECES)
        sampling: Sampling,
        run: RunPass | None = None,  # a graph of OnePass; default: the network itself
    ):
        self.run = run if run is not None else OnePass(network.unet, repeat=True)
        self.dtype = network.unet.conv_in.weight.dtype
        self.sampling = sampling
        self.passes = GUIDED_PASSES if sampling.guided else 1
        if sampling.guided:
            no_text = torch.full_like(tokens, PAD)
            picture = torch.cat([torch.zeros_like(picture), picture, picture])
            tokens = torch.cat([no_text, no_text, tokens])
        self.static_features = network.static_features(picture.to(self.dtype))
        self.context, self.pooled_text = network.text(tokens)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x (B, 2, T, h, w) float32 = signal + sigma * noise. Returns x0, float32."""
        v, scaled, signal, noise = self.velocity(x, sigma)
        x0 = scaled * signal - v * noise
        if not self.sampling.guided:
            return x0
        uncond, image, image_text = x0.chunk(GUIDED_PASSES)
        by_picture, by_text = self.sampling.picture_scale, self.sampling.text_scale
        guided = uncond + by_picture * (image - uncond) + by_text * (image_text - image)
        return rescale(guided, image_text, self.sampling.rescale)

    def velocity(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, float, float]:
        """Return v, its input, and the shares of signal and noise in that input.

        v (passes * B, ...) float32. The input has unit variance: signal^2 + noise^2 = 1.
        """
        signal = (1 / (1 + sigma**2).sqrt()).item()
        scaled = (x * signal).repeat(self.passes, 1, 1, 1, 1)
        time = time_of(sigma).to(x.device, torch.float32).expand(len(scaled))
        sample = join(scaled.to(self.dtype), self.static_features)
        v = self.run(sample, time, self.context, self.pooled_text)
        return v.float(), scaled, signal, signal * sigma.item()


def rescale(guided: Tensor, image_text: Tensor, share: float) -> Tensor:
    """Bring a guided prediction back to the strength of the pass with all conditions.

    Lin et al. 2023 (arXiv:2305.08891, section 3.4), but with the root mean square instead of the
    standard deviation: the mean of a motion is a pan, which is part of its strength.
    """
    if share == 0:
        return guided
    over = (1, 2, 3, 4)
    strength = image_text.square().mean(over, keepdim=True).sqrt()
    too_strong = guided.square().mean(over, keepdim=True).sqrt().clamp(min=1e-6)
    return guided * (share * strength / too_strong + 1 - share)
