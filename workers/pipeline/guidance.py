"""Turns the network's output into the sampler's x0: one pass per step, or three with guidance.

Guidance follows Brooks et al. 2022 (InstructPix2Pix, arXiv:2211.09800, eq. 3): it starts from the
unconditional prediction, moves towards the picture's and then towards that of picture and text. All
three passes run as one batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from workers.pipeline.denoiser import join
from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.loader import Sampling
from workers.pipeline.sampler import time_of
from workers.pipeline.text import PAD

GUIDED_PASSES = 3
RunPass = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class ClipDenoiser:
    """denoise(x, sigma) -> x0. Encodes its pictures and prompts once."""

    def __init__(
        self,
        network: LayeredDenoiser,
        picture: Tensor,  # (B, 4, p, p): colours in [-1, 1], then the matte
        tokens: Tensor,  # (B, L, PIECES)
        sampling: Sampling,
        run: RunPass | None = None,  # a graph of OnePass; default: the network itself
    ):
        self.run = run if run is not None else network.one_pass(repeat=True)
        self.network = network
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
        """x (B, 8, T, h, w) float32 = signal + sigma * noise. Returns x0, float32."""
        v, scaled, signal, noise = self.velocity(x, sigma)
        x0 = scaled * signal - v * noise
        if not self.sampling.guided:
            return x0
        uncond, image, image_text = x0.chunk(GUIDED_PASSES)
        by_picture, by_text = self.sampling.picture_scale, self.sampling.text_scale
        guided = uncond + by_picture * (image - uncond) + by_text * (image_text - image)
        return rescale(guided, image_text, self.sampling.rescale)

    def softness(self) -> Tensor:
        """The probability that background and subject are soft, (B, 2, h, w) float32."""
        # The last of the passes knows picture and prompt.
        rows = slice(len(self.context) * (self.passes - 1) // self.passes, None)
        logits = self.network.softness(self.static_features[rows], self.pooled_text[rows])
        probability: Tensor = logits.float().sigmoid()
        return probability

    def mattes(self) -> Tensor:
        """Of the pictures' subjects, (B, h, w) in [0, 1]; zero without one."""
        return self.static_features[-(len(self.context) // self.passes) :, -1]

    def velocity(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, float, float]:
        """Return v, its input, and the shares of signal and noise in that input.

        v (passes * B, ...) float32. The input has unit variance: signal^2 + noise^2 = 1.
        """
        signal = (1 / (1 + sigma**2).sqrt()).item()
        scaled = (x * signal).repeat(self.passes, 1, 1, 1, 1)
        # No copy from the CPU: a GPU that records its passes could not replay it.
        time = torch.full((len(scaled),), time_of(sigma).item(), device=x.device)
        sample = join(scaled.to(self.dtype), self.static_features)
        v = self.run(sample, time, self.context, self.pooled_text)
        return v.float(), scaled, signal, signal * sigma.item()


def rescale(guided: Tensor, image_text: Tensor, share: float) -> Tensor:
    """Bring a guided prediction back to the strength of the pass with all conditions.

    Lin et al. 2023 (arXiv:2305.08891, section 3.4), but with the root mean square instead of the
    standard deviation: the mean of a motion is a pan, which is part of its strength. Each layer,
    two channels, by itself.
    """
    if share == 0:
        return guided
    layered, reference = (x.reshape(len(x), -1, 2, *x.shape[2:]) for x in (guided, image_text))
    over = (2, 3, 4, 5)
    strength = reference.square().mean(over, keepdim=True).sqrt()
    too_strong = layered.square().mean(over, keepdim=True).sqrt().clamp(min=1e-6)
    return (layered * (share * strength / too_strong + 1 - share)).flatten(1, 2)
