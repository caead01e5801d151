"""The network that denoises layered motion: a transformer for paths, a video UNet for what is soft.

How a camera and a body move is six numbers each per moment, so it does not need a grid: a small
transformer over the moments denoises them, given the prompt, where the subject is, and a coarse
view of the picture. Its estimate joins the UNet's input, so that a bend follows its body. A third,
small part says where anything is soft at all; it runs once per clip.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.pipeline.affine import to_fields, to_path
from workers.pipeline.denoiser import DenoiserConfig, OnePass, PictureEncoder, places, video_unet
from workers.pipeline.layer_state import AFFINE, CHANNELS, SOFT, centre_of, has_subject
from workers.pipeline.noise import LayeredNoise
from workers.pipeline.text import TextEncoder

VIEW = 4  # the side of the coarse view of the picture
PLACES = 2  # static channels after the features: x and y, then the matte
TIME_WAVES = 32


class LayeredDenoiser(nn.Module):
    """Predict v (Salimans & Ho 2022, arXiv:2202.00512) of a noisy state (see layer_state.py)."""

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        if config.picture != 4 * config.grid:
            raise ValueError(f"a picture of {config.picture} is not 4 x a grid of {config.grid}")
        self.config = config
        static = config.features + PLACES + 1
        self.text = TextEncoder(config.buckets, config.caption_length, config.text_width)
        self.picture_encoder = PictureEncoder(config.features, channels=4)
        self.unet = video_unet(config, inputs=CHANNELS + static, outputs=CHANNELS - 4)
        self.paths = PathDenoiser(config)
        self.softness = Softness(static, config.text_width)

    def forward(self, x: Tensor, time: Tensor, picture: Tensor, tokens: Tensor) -> Tensor:
        """Encode and denoise.

        x (B, 8, T, g, g) noisy state; time (B,) float in [0, 1], 1 is pure noise; picture
        (B, 4, p, p), colours in [-1, 1] and the matte in [0, 1], zeros for no picture; tokens
        (B, L, PIECES). Returns v, shaped as x.
        """
        static = self.static_features(picture)
        per_frame = static.to(x.dtype)[:, :, None].expand(-1, -1, x.shape[2], -1, -1)
        v: Tensor = self.one_pass(repeat=True)(
            torch.cat([x, per_frame], 1), time, *self.text(tokens)
        )
        return v

    def static_features(self, picture: Tensor) -> Tensor:
        """Input channels that are the same in all steps and frames, (B, C, g, g): features, x and
        y, the matte."""
        features = self.picture_encoder(picture)
        place = places(self.config.grid, features).expand(len(features), -1, -1, -1)
        matte = F.avg_pool2d(picture[:, 3:], self.config.picture // self.config.grid)
        return torch.cat([features, place, matte.to(features.dtype)], 1)

    def one_pass(self, repeat: bool) -> nn.Module:
        """One pass as a function of tensors only; `repeat` as in OnePass."""
        return LayeredPass(self, repeat)


class LayeredPass(nn.Module):
    """One pass, with the arguments of OnePass."""

    def __init__(self, network: LayeredDenoiser, repeat: bool):
        super().__init__()
        self.paths, self.unet, self.repeat = network.paths, network.unet, repeat

    def forward(self, sample: Tensor, time: Tensor, context: Tensor, pooled_text: Tensor) -> Tensor:
        noisy, static = sample[:, AFFINE], sample[:, CHANNELS:, 0]
        v = self.paths(noisy, time, static, context, pooled_text)
        angle = (time * (math.pi / 2))[:, None, None, None, None]
        estimate = (angle.cos() * noisy - angle.sin() * v).to(sample.dtype)
        rest = torch.cat([estimate, sample[:, SOFT], sample[:, CHANNELS:]], 1)
        soft = OnePass.of(self.unet, rest, time, context, pooled_text, self.repeat)
        return torch.cat([v, soft], 1)


class RigidPass(nn.Module):
    """A pass for clips in which nothing bends: the UNet, which costs most, does not run."""

    def __init__(self, network: LayeredDenoiser):
        super().__init__()
        self.paths = network.paths

    def forward(self, sample: Tensor, time: Tensor, context: Tensor, pooled_text: Tensor) -> Tensor:
        noisy, static = sample[:, AFFINE], sample[:, CHANNELS:, 0]
        v = self.paths(noisy, time, static, context, pooled_text)
        return torch.cat([v, torch.zeros_like(sample[:, SOFT])], 1)


class PathDenoiser(nn.Module):
    """Denoise the affine channels of a state: a transformer over moments, words and the picture.

    Scale and shift of its norms follow the noise level, the prompt and the subject's place
    (Peebles & Xie 2022, arXiv:2212.09748, with one modulation for all blocks as in Chen et al.
    2023, arXiv:2310.00426).
    """

    unit: Tensor

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        width, self.grid = config.path_width, config.grid
        unit = LayeredNoise(config.frames, config.grid).unit
        self.register_buffer("unit", unit, persistent=False)
        coefficients = 2 * 2 * len(unit)
        self.moment = nn.Linear(coefficients, width)
        self.position = nn.Parameter(torch.randn(config.frames, width) * 0.02)
        self.word = nn.Linear(config.text_width, width)
        self.view = nn.Linear(config.features + PLACES + 1, width)
        # Where the subject is: its centre, its outline along both axes, its share of the picture.
        self.subject = nn.Sequential(
            nn.Linear(4 + 2 * config.grid, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.level = nn.Sequential(
            nn.Linear(2 * TIME_WAVES, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.prompt = nn.Linear(config.text_width, width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        heads = max(1, width // 32)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(config.path_blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.last = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, coefficients)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, noisy: Tensor, time: Tensor, static: Tensor, context: Tensor, pooled_text: Tensor
    ) -> Tensor:
        """noisy (B, 4, T, g, g); time (B,); static (B, C, g, g); context (B, L, D) and pooled_text
        (B, D) from the text encoder. Returns v, affine and shaped as `noisy`."""
        unit = self.unit.to(noisy.dtype)
        path = to_path(noisy.reshape(len(noisy), 2, 2, *noisy.shape[2:])) / unit  # (B, 2, T, 2, 3)
        moments = self.moment(path.transpose(1, 2).flatten(2)) + self.position
        frames = moments.shape[1]
        matte = static[:, -1]
        subject = self.subject(outline(matte))
        view = F.adaptive_avg_pool2d(static, VIEW).flatten(2).transpose(1, 2)
        x = torch.cat([moments, self.word(context), self.view(view), subject[:, None]], 1)
        given = self.level(waves(time).to(x.dtype)) + self.prompt(pooled_text) + subject
        shifts = self.modulation(given)[:, None].chunk(6, -1)
        for block in self.blocks:
            x = block(x, shifts)
        scale, shift = self.last(F.silu(given))[:, None].chunk(2, -1)
        v = self.out(self.norm(x[:, :frames]) * (1 + scale) + shift)
        v = v.unflatten(2, (2, 2, 3)).transpose(1, 2) * unit
        return to_fields(v, self.grid).flatten(1, 2)


class _Block(nn.Module):
    """A transformer block whose norms are scaled, shifted and gated from outside."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.mix = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width)
        )
        self.bias = nn.Parameter(torch.zeros(6, width))

    def forward(self, x: Tensor, shifts: tuple[Tensor, ...]) -> Tensor:
        a, b, c, d, e, f = (given + own for given, own in zip(shifts, self.bias, strict=True))
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm1(x) * (1 + a) + b).chunk(3, -1)
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + (1 + c) * self.join(attended)
        mixed: Tensor = x + (1 + f) * self.mix(self.norm2(x) * (1 + d) + e)
        return mixed


class Softness(nn.Module):
    """Where background and subject are soft: logits (B, 2, g, g). Runs once per clip."""

    def __init__(self, static: int, text_width: int, width: int = 48):
        super().__init__()
        self.first = nn.Conv2d(static, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, width, affine=False) for _ in range(2))
        self.prompt = nn.Sequential(
            nn.Linear(text_width, width), nn.SiLU(), nn.Linear(width, 4 * width)
        )
        self.out = nn.Conv2d(width, 2, 1)

    def forward(self, static: Tensor, pooled_text: Tensor) -> Tensor:
        """static (B, C, g, g) from `static_features`; pooled_text (B, D)."""
        a, b, c, d = self.prompt(pooled_text)[..., None, None].chunk(4, 1)
        x = F.silu(self.norms[0](self.first(static)) * (1 + a) + b)
        x = F.silu(self.norms[1](self.second(x)) * (1 + c) + d)
        logits: Tensor = self.out(x)
        return logits


def outline(matte: Tensor) -> Tensor:
    """A subject's place in a matte (B, g, g), (B, 4 + 2 g): is there one, its centre, its share of
    the picture, and how much of each row and column it covers at most."""
    there = has_subject(matte).to(matte.dtype)[:, None]
    parts = [there, centre_of(matte), matte.mean((1, 2))[:, None], matte.amax(1), matte.amax(2)]
    return torch.cat(parts, 1) * there


def waves(time: Tensor) -> Tensor:
    """Sines and cosines of times (B,), (B, 2 TIME_WAVES), half-periods from 2 down to 1 / 50."""
    rates = torch.logspace(0, 2, TIME_WAVES, device=time.device) * (math.pi / 2)
    phase = time[:, None].float() * rates
    return torch.cat([phase.sin(), phase.cos()], 1)
