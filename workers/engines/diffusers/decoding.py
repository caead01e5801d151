"""From a pipeline's latents to frames in host memory, few at a time where the decoder can."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

from app.domain.errors import RenderFailed


def streams(pipe: Any) -> bool:
    """Whether its clips are decoded one latent frame at a time, with the same result."""
    vae = pipe.vae
    known = isinstance(pipe, WanImageToVideoPipeline) and isinstance(vae, AutoencoderKLWan)
    return known and not vae.use_tiling


def decode(
    pipe: Any, video: torch.Tensor, between: Callable[[], None] = lambda: None
) -> Iterator[torch.Tensor]:
    """Frames as (3, H, W) in [0, 1], of what the pipeline returned as `video`.

    That is latents, (1, C, t, h, w), if the pipeline `streams`; or else frames, (T, 3, H, W).
    `between` is called before each further latent frame; what it raises ends the decoding.
    """
    return _decode_wan(pipe, video, between) if streams(pipe) else iter(video)


def _decode_wan(
    pipe: Any, latents: torch.Tensor, between: Callable[[], None]
) -> Iterator[torch.Tensor]:
    """What AutoencoderKLWan.decode does, but for its memory: it keeps all frames until the end.

    Its convolutions remember the frames before (`_feat_map`), so each latent frame is decoded by
    itself: the first into one frame, the others into four.
    """
    vae = pipe.vae
    latents = latents.to(vae.dtype)
    mean, std = (
        torch.tensor(numbers, device=latents.device, dtype=latents.dtype).view(1, -1, 1, 1, 1)
        for numbers in (vae.config.latents_mean, vae.config.latents_std)
    )
    # 1 / (1 / std): the pipeline's own rounding.
    latents = latents / (1.0 / std) + mean
    vae.clear_cache()
    try:
        hidden = vae.post_quant_conv(latents)
        for number in range(hidden.shape[2]):
            if number:
                between()
            vae._conv_idx = [0]
            first = {"first_chunk": True} if number == 0 else {}
            chunk = vae.decoder(
                hidden[:, :, number : number + 1],
                feat_cache=vae._feat_map,
                feat_idx=vae._conv_idx,
                **first,
            )
            if vae.config.patch_size is not None:
                chunk = unpatchify(chunk, patch_size=vae.config.patch_size)
            for frame in chunk[0].transpose(0, 1):  # (3, T, H, W)
                yield (frame.clamp(-1.0, 1.0) * 0.5 + 0.5).clamp(0.0, 1.0)
    finally:
        vae.clear_cache()


def to_pixels(frame: torch.Tensor) -> np.ndarray:
    """A frame, (3, H, W) in [0, 1], as (H, W, 3) uint8 in host memory.

    Raises RenderFailed for numbers that are none: as pixels they would be black.
    """
    frame = frame.float()
    if not torch.isfinite(frame).all():
        raise RenderFailed("The model made numbers that are none.", code="numerical_error")
    pixels = (frame * 255).round().to(torch.uint8).permute(1, 2, 0)
    return np.ascontiguousarray(pixels.cpu().numpy())
