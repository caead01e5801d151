"""The network of motion-small: a small video UNet that denoises motion, not pixels.

diffusers' UNetMotionModel (spatial blocks, temporal attention, text cross-attention) over a clip of
displacement fields. Features of the picture are concatenated to the input of every frame, as in PIA
(Zhang et al. 2023, arXiv:2312.13964). Picture and prompt are encoded once per clip.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models import UNetMotionModel
from torch import Tensor, nn

from workers.pipeline.text import TextEncoder


@dataclass(frozen=True)
class DenoiserConfig:
    """The shape of the network; saved beside its weights."""

    channels: tuple[int, ...] = (32, 64, 96)
    head_width: int = 32  # channels per attention head; narrower heads cost time on a CPU
    frames: int = 8
    grid: int = 16  # the side of a motion field
    picture: int = 64  # the side of the picture that the network sees: 4 * grid
    features: int = 32  # channels of what it makes of the picture
    buckets: int = 4096  # of hashed words and runs of letters
    caption_length: int = 16
    text_width: int = 64


class PictureEncoder(nn.Module):
    """(B, 3, p, p) -> (B, features, p / 4, p / 4): what there is to move, and where it ends."""

    def __init__(self, features: int):
        super().__init__()
        wide = 2 * features
        self.fine = nn.Sequential(_conv(5, features, 2), _conv(features, wide, 2))  # p / 4
        self.middle = nn.Sequential(_conv(wide, wide, 2), _conv(wide, wide, 1))  # p / 8
        self.coarse = nn.Sequential(  # p / 16
            _conv(wide, wide, 2), _conv(wide, wide, 1), _conv(wide, wide, 1)
        )
        self.join_middle = _conv(2 * wide, wide, 1)
        self.join_fine = _conv(2 * wide, wide, 1)
        self.out = nn.Conv2d(wide, features, 1)

    def forward(self, picture: Tensor) -> Tensor:
        side = picture.shape[-1]
        # A convolution cannot tell where it is, and a plant is rooted at its lower end.
        place = places(side, picture).expand(len(picture), -1, -1, -1)
        fine = self.fine(torch.cat([picture, place], 1))
        middle = self.middle(fine)
        coarse = F.interpolate(self.coarse(middle), scale_factor=2.0, mode="nearest")
        middle = self.join_middle(torch.cat([middle, coarse], 1))
        middle = F.interpolate(middle, scale_factor=2.0, mode="nearest")
        return self.out(self.join_fine(torch.cat([fine, middle], 1)))


def _conv(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()
    )


def places(side: int, like: Tensor) -> Tensor:
    """x and y of the cell centres over [-1, 1]^2, (1, 2, side, side), y down."""
    line = (torch.arange(side, device=like.device) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y])[None].to(like.dtype)


class MotionDenoiser(nn.Module):
    """Predict v (Salimans & Ho 2022, arXiv:2202.00512) of a noisy clip of motion fields."""

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        if config.picture != 4 * config.grid:
            raise ValueError(f"a picture of {config.picture} is not 4 x a grid of {config.grid}")
        self.config = config
        levels = len(config.channels)
        heads = tuple(channels // config.head_width for channels in config.channels)
        self.text = TextEncoder(config.buckets, config.caption_length, config.text_width)
        self.see = PictureEncoder(config.features)
        self.unet = UNetMotionModel(
            sample_size=config.grid,
            in_channels=2 + config.features + 2,  # motion, features, x and y
            out_channels=2,
            # The finest level goes without attention: half of the time, little of the quality.
            down_block_types=("DownBlockMotion",) + ("CrossAttnDownBlockMotion",) * (levels - 1),
            up_block_types=("CrossAttnUpBlockMotion",) * (levels - 1) + ("UpBlockMotion",),
            block_out_channels=config.channels,
            layers_per_block=1,
            # Groups of several channels: with one channel per group the norm would wipe out
            # what is constant over a frame, which is all there is to a pan.
            norm_num_groups=8,
            cross_attention_dim=config.text_width,
            num_attention_heads=heads,
            motion_num_attention_heads=heads,
            motion_max_seq_length=config.frames,
            use_linear_projection=True,
            # Cross-attention alone learns from pure noise very slowly what a prompt means; the mean
            # of its words, joined to the noise level, reaches every block.
            addition_embed_type="text_time",
            addition_time_embed_dim=config.channels[0],
            projection_class_embeddings_input_dim=config.text_width + config.channels[0],
        )

    def forward(self, x: Tensor, time: Tensor, picture: Tensor, tokens: Tensor) -> Tensor:
        """Encode and denoise.

        x (B, 2, T, h, w) noisy motion; time (B,) float in [0, 1], 1 is pure noise;
        picture (B, 3, p, p) in [-1, 1], zero where there is none; tokens (B, L, PIECES).
        Returns v, shaped as x.
        """
        return self.denoise(x, time, self.still(picture), *self.text(tokens))

    def still(self, picture: Tensor) -> Tensor:
        """What does not change from step to step nor from frame to frame, (B, C, h, w)."""
        seen = self.see(picture)
        place = places(self.config.grid, seen).expand(len(seen), -1, -1, -1)
        return torch.cat([seen, place], 1)

    def denoise(
        self, x: Tensor, time: Tensor, still: Tensor, context: Tensor, said: Tensor
    ) -> Tensor:
        """One pass. context (B, L, D) and said (B, D) as the text encoder returns them."""
        return OnePass.of(self.unet, join(x, still), time, context, said)


class OnePass(nn.Module):
    """One pass as a function of tensors alone, which graphs can be made of."""

    def __init__(self, unet: UNetMotionModel, repeat: bool):
        """`repeat`: whether the context is copied for every frame, as stock diffusers wants it."""
        super().__init__()
        self.unet = unet
        self.repeat = repeat

    def forward(self, sample: Tensor, time: Tensor, context: Tensor, said: Tensor) -> Tensor:
        """sample (B, C, T, h, w) from `join`; time (B,); context (B, L, D); said (B, D)."""
        return self.of(self.unet, sample, time, context, said, self.repeat)

    @staticmethod
    def of(
        unet: UNetMotionModel,
        sample: Tensor,
        time: Tensor,
        context: Tensor,
        said: Tensor,
        repeat: bool = True,
    ) -> Tensor:
        if repeat:
            context = context.repeat_interleave(sample.shape[2], 0)  # (B*T, L, D)
        time = time * 1000
        return unet(
            sample,
            time,
            context,
            added_cond_kwargs={"text_embeds": said, "time_ids": time[:, None]},
            return_dict=False,
        )[0]


def join(x: Tensor, still: Tensor) -> Tensor:
    """What the UNet takes: motion (B, 2, T, h, w) and what stands still (B, C, h, w)."""
    return torch.cat([x, still.to(x.dtype)[:, :, None].expand(-1, -1, x.shape[2], -1, -1)], 1)
