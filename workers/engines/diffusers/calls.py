"""The arguments of a pipeline's call: from the request, from the profile, and nothing else.

A pipeline gets only what its signature takes, and a profile that promises what the pipeline would
ignore is refused while it loads.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from PIL import Image

from app.domain.job.profiles import Option, Profile
from workers.engines.base import RenderSpec
from workers.engines.diffusers.table import DiffusersTable
from workers.engines.diffusers.unusable import Unusable


@dataclass(frozen=True)
class Prepared:
    """An order with its picture, cropped and scaled to the size of the clip."""

    spec: RenderSpec
    picture: Image.Image


def accepted(pipe: Any) -> set[str]:
    """The arguments that the pipeline's call takes."""
    return set(inspect.signature(type(pipe).__call__).parameters)


def arguments(
    profile: Profile, table: DiffusersTable, pipe: Any, order: Prepared
) -> dict[str, Any]:
    """The arguments of the call for an order."""
    spec, picture = order.spec, order.picture
    takes = accepted(pipe)
    ours = {
        "image": picture,
        "prompt": spec.prompt if Option.PROMPT in profile.honours else "",
        "width": picture.width,
        "height": picture.height,
        "num_frames": spec.frames,
        "fps": spec.fps,
        "frame_rate": spec.fps,
        "num_inference_steps": spec.steps,
        # On the CPU: the same noise whatever the device.
        "generator": torch.Generator("cpu").manual_seed(spec.seed),
    }
    given = {name: value for name, value in ours.items() if name in takes}
    if table.motion is not None:
        motion = round(table.motion.at_1 * spec.motion)
        given[table.motion.argument] = min(table.motion.most, max(table.motion.least, motion))
    if spec.loop and table.loop == "last_image":
        given["last_image"] = picture
    elif spec.loop and table.loop == "conditions":
        del given["image"]
        # Not `image=[...]`: the pipeline pairs that with a list of one video, and drops the second.
        given["conditions"] = [
            LTXVideoCondition(image=picture, frame_index=index) for index in (0, spec.frames - 1)
        ]
    if table.parallel.vae == "sharded" and "decode_chunk_size" in takes:
        given["decode_chunk_size"] = spec.frames
    given |= table.call
    if spec.negative_prompt:
        given["negative_prompt"] = spec.negative_prompt
    return given


def check_call(profile: Profile, table: DiffusersTable, pipe: Any) -> None:
    """Raises Unusable for an argument that the pipeline has not, or would ignore."""
    name, takes = type(pipe).__name__, accepted(pipe)
    if unknown := sorted(set(table.call) - takes):
        raise Unusable(f"call: {name} has no argument {unknown[0]!r}.")
    if Option.PROMPT in profile.honours and "prompt" not in takes:
        raise Unusable(f"honours: {name} takes no prompt.")
    if Option.NEGATIVE_PROMPT in profile.honours and "negative_prompt" not in takes:
        raise Unusable(f"honours: {name} takes no negative prompt.")
    if table.motion is not None and table.motion.argument not in takes:
        raise Unusable(f"motion: {name} has no argument {table.motion.argument!r}.")
    if table.loop is not None and table.loop not in takes:
        raise Unusable(f"loop: {name} has no argument {table.loop!r}.")
    if table.loop == "last_image":
        _check_last_image(pipe)


def _check_last_image(pipe: Any) -> None:
    name = type(pipe).__name__
    if pipe.config.get("expand_timesteps"):
        raise Unusable(f"loop: {name} of this checkpoint ignores last_image (expand_timesteps).")
    config = pipe.transformer.config
    if config.get("image_dim") is not None and config.get("pos_embed_seq_len") is None:
        raise Unusable(f"loop: this checkpoint of {name} knows first pictures only, no last_image.")


def check_grid(profile: Profile, pipe: Any) -> None:
    """Raises Unusable for numbers of frames or sizes that the pipeline would round."""
    name = type(pipe).__name__
    ratio = temporal_ratio(pipe)
    if ratio > 1 and (profile.frames_multiple % ratio or profile.frames_plus % ratio != 1):
        rule = f"{profile.frames_multiple}k + {profile.frames_plus}"
        raise Unusable(f"frames: {name} rounds to {ratio}k + 1, but the profile allows {rule}.")
    step = side_step(pipe)
    for size in profile.sizes:
        if size.width % step or size.height % step:
            raise Unusable(
                f"sizes: {name} needs sides that are multiples of {step}, not"
                f" {size.width}x{size.height}."
            )


def temporal_ratio(pipe: Any) -> int:
    """Frames per latent frame; 1 if there is one for each."""
    for name in ("vae_scale_factor_temporal", "vae_temporal_compression_ratio"):
        if (ratio := getattr(pipe, name, None)) is not None:
            return int(ratio)
    return 1


def side_step(pipe: Any) -> int:
    """What sides must be a multiple of: pixels per latent pixel, times those of a token."""
    factors = ("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_scale_factor")
    step = next((int(getattr(pipe, name)) for name in factors if hasattr(pipe, name)), 8)
    network = getattr(pipe, "transformer", None)
    patch = 1 if network is None else network.config.get("patch_size", 1)
    return step * int(patch[-1] if isinstance(patch, list | tuple) else patch or 1)
