"""The network of motion-small: a small video UNet that denoises motion, not pixels.

diffusers' UNetMotionModel (spatial blocks, temporal attention, text cross-attention) over a clip of
displacement fields. The picture is concatenated to the input of every frame, as in PIA.
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

    channels: tuple[int, ...] = (32, 64, 128)
    head_width: int = 32  # channels per attention head; narrower heads cost time on a CPU
    frames: int = 16
    grid: int = 16  # the side of a motion field
    picture: int = 32  # the side of the picture that the network sees; a multiple of grid
    words: int = 0
    caption_length: int = 12
    text_width: int = 64


class MotionDenoiser(nn.Module):
    """Predict v (Salimans & Ho 2022, arXiv:2202.00512) of a noisy clip of motion fields."""

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        self.config = config
        self.fold = config.picture // config.grid
        levels = len(config.channels)
        heads = tuple(channels // config.head_width for channels in config.channels)
        self.text = TextEncoder(config.words, config.caption_length, config.text_width)
        self.unet = UNetMotionModel(
            sample_size=config.grid,
            in_channels=2 + 3 * self.fold**2 + 2,  # motion, folded picture, x and y
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
        line = (torch.arange(config.grid) + 0.5) / config.grid * 2 - 1
        y, x = torch.meshgrid(line, line, indexing="ij")
        # A convolution cannot tell where it is, and a zoom is nothing but that.
        self.register_buffer("place", torch.stack([x, y]), persistent=False)

    def forward(self, x: Tensor, time: Tensor, picture: Tensor, tokens: Tensor) -> Tensor:
        """Denoise.

        x (B, 2, T, h, w) noisy motion; time (B,) float in [0, 1], 1 is pure noise;
        picture (B, 3, p, p) in [-1, 1], zero where there is none; tokens (B, L) int64.
        Returns v, shaped as x.
        """
        b, _, t, h, w = x.shape
        still = torch.cat(
            [F.pixel_unshuffle(picture, self.fold), self.place.expand(b, -1, h, w)], 1
        )
        still = still.to(x.dtype)[:, :, None].expand(-1, -1, t, -1, -1)
        context, said = self.text(tokens)  # (B, L, D), (B, D)
        time = time * 1000
        return self.unet(
            torch.cat([x, still], 1),
            time,
            context.repeat_interleave(t, 0),  # (B*T, L, D)
            added_cond_kwargs={"text_embeds": said, "time_ids": time[:, None]},
        ).sample
