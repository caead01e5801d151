"""Parts of motion-small's network: its shape, its picture encoder, and its video UNet.

The UNet is diffusers' UNetMotionModel (spatial blocks, temporal attention, text cross-attention)
over a clip of displacement fields. Features of the picture are concatenated to the input of every
frame, as in PIA (Zhang et al. 2023, arXiv:2312.13964). Picture and prompt are encoded once per
clip.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models import UNetMotionModel
from torch import Tensor, nn


@dataclass(frozen=True)
class DenoiserConfig:
    """The shape of the network; saved next to its weights."""

    channels: tuple[int, ...] = (32, 64, 96)
    head_width: int = 32  # channels per attention head; narrower heads cost time on a CPU
    frames: int = 8
    grid: int = 16  # the side of a motion field
    picture: int = 64  # the side of the network's input picture: 4 * grid
    features: int = 32  # channels of the encoded picture
    buckets: int = 4096  # of hashed words and runs of letters
    caption_length: int = 16
    text_width: int = 64
    path_width: int = 128  # of the transformer that denoises what is affine
    path_blocks: int = 4


class PictureEncoder(nn.Module):
    """Encode pictures, (B, C, p, p) -> (B, features, p / 4, p / 4): objects and their outlines."""

    def __init__(self, features: int, channels: int):
        super().__init__()
        wide = 2 * features
        self.fine = nn.Sequential(  # p / 4
            _conv(channels + 2, features, 2), _conv(features, wide, 2)
        )
        self.middle = nn.Sequential(_conv(wide, wide, 2), _conv(wide, wide, 1))  # p / 8
        self.coarse = nn.Sequential(  # p / 16
            _conv(wide, wide, 2), _conv(wide, wide, 1), _conv(wide, wide, 1)
        )
        self.join_middle = _conv(2 * wide, wide, 1)
        self.join_fine = _conv(2 * wide, wide, 1)
        self.out = nn.Conv2d(wide, features, 1)

    def forward(self, picture: Tensor) -> Tensor:
        side = picture.shape[-1]
        # Convolutions do not know positions, and a plant is rooted at its lower end.
        place = places(side, picture).expand(len(picture), -1, -1, -1)
        fine = self.fine(torch.cat([picture, place], 1))
        middle = self.middle(fine)
        coarse = F.interpolate(self.coarse(middle), scale_factor=2.0, mode="nearest")
        middle = self.join_middle(torch.cat([middle, coarse], 1))
        middle = F.interpolate(middle, scale_factor=2.0, mode="nearest")
        features: Tensor = self.out(self.join_fine(torch.cat([fine, middle], 1)))
        return features


def _conv(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()
    )


def places(side: int, like: Tensor) -> Tensor:
    """x and y of the cell centres over [-1, 1]^2, (1, 2, side, side), y down."""
    line = (torch.arange(side, device=like.device) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y])[None].to(like.dtype)


def video_unet(config: DenoiserConfig, inputs: int, outputs: int) -> UNetMotionModel:
    """diffusers' video UNet in the shape of a config."""
    levels = len(config.channels)
    heads = tuple(channels // config.head_width for channels in config.channels)
    made: UNetMotionModel = UNetMotionModel(
        sample_size=config.grid,
        in_channels=inputs,
        out_channels=outputs,
        # No attention at the finest level: it cost half of the time for little quality.
        down_block_types=("DownBlockMotion",) + ("CrossAttnDownBlockMotion",) * (levels - 1),
        up_block_types=("CrossAttnUpBlockMotion",) * (levels - 1) + ("UpBlockMotion",),
        block_out_channels=config.channels,
        layers_per_block=1,
        # Groups of several channels: with one channel per group the norm would remove what is
        # constant over a frame, and a pan is nothing else.
        norm_num_groups=8,
        cross_attention_dim=config.text_width,
        num_attention_heads=heads,
        motion_num_attention_heads=heads,
        motion_max_seq_length=config.frames,
        use_linear_projection=True,
        # From pure noise, cross-attention alone learns very slowly what a prompt means. The
        # mean of its words, added to the noise level's embedding, reaches every block.
        addition_embed_type="text_time",
        addition_time_embed_dim=config.channels[0],
        projection_class_embeddings_input_dim=config.text_width + config.channels[0],
    )
    return made


class OnePass(nn.Module):
    """One pass as a function of tensors only, so that a graph can be built from it."""

    def __init__(self, unet: UNetMotionModel, repeat: bool):
        """`repeat`: copy the context for every frame, as stock diffusers expects it."""
        super().__init__()
        self.unet = unet
        self.repeat = repeat

    def forward(self, sample: Tensor, time: Tensor, context: Tensor, pooled_text: Tensor) -> Tensor:
        """sample (B, C, T, h, w) from `join`; time (B,); context (B, L, D); pooled_text (B, D)."""
        return self.of(self.unet, sample, time, context, pooled_text, self.repeat)

    @staticmethod
    def of(
        unet: UNetMotionModel,
        sample: Tensor,
        time: Tensor,
        context: Tensor,
        pooled_text: Tensor,
        repeat: bool = True,
    ) -> Tensor:
        if repeat:
            context = context.repeat_interleave(sample.shape[2], 0)  # (B*T, L, D)
        time = time * 1000
        v: Tensor = unet(
            sample,
            time,
            context,
            added_cond_kwargs={"text_embeds": pooled_text, "time_ids": time[:, None]},
            return_dict=False,
        )[0]
        return v


def join(x: Tensor, static_features: Tensor) -> Tensor:
    """A pass's input: motion (B, C, T, h, w) and static features (B, C, h, w) in every frame."""
    per_frame = static_features.to(x.dtype)[:, :, None].expand(-1, -1, x.shape[2], -1, -1)
    return torch.cat([x, per_frame], 1)
