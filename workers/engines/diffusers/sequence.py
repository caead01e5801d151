"""Ulysses: each member has some of the tokens, and for attention all tokens of some of the heads.

Jacobs et al. 2023, arXiv:2309.14509. The library has it, with a plan for each network of what is
split. Wan's plan works. Those of LTX and LTX-2 fail for pictures: their times are per token and are
not split, and the text's mask meets heads that are shared out. Ours leave the text whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from diffusers import (
    LTX2VideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    WanTransformer3DModel,
)
from diffusers.models import ContextParallelConfig
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput

from app.domain.job.profiles import Profile
from workers.engines.diffusers.calls import side_step, temporal_ratio
from workers.engines.diffusers.loading import denoisers
from workers.engines.diffusers.members import Member
from workers.engines.diffusers.unusable import Unusable

NETWORKS = (WanTransformer3DModel, LTXVideoTransformer3DModel, LTX2VideoTransformer3DModel)


def fits(pipe: Any) -> bool:
    """Whether all networks of a pipeline can be shared out by tokens."""
    return all(isinstance(network, NETWORKS) for network in denoisers(pipe))


def check(profile: Profile, pipe: Any, size: int) -> None:
    """Raises Unusable for heads or tokens that `size` members cannot share out evenly."""
    for network in denoisers(pipe):
        config: Any = network.config
        for key in ("num_attention_heads", "audio_num_attention_heads"):
            if (heads := config.get(key)) is not None and heads % size:
                raise Unusable(f"parallel: {heads} attention heads are not divisible by {size}.")
    step, ratio = side_step(pipe), temporal_ratio(pipe)
    for clip in profile.sizes:
        tokens = (clip.width // step) * (clip.height // step)  # of one latent frame
        for frames in range(
            profile.min_frames, profile.max_frames + 1, max(1, profile.frames_multiple)
        ):
            latent = (frames - 1) // ratio + 1
            # A picture at the end of a loop may be one latent frame more.
            if (tokens * latent) % size or (profile_loops(profile) and tokens % size):
                raise Unusable(
                    f"parallel: {clip.width}x{clip.height} with {frames} frames has"
                    f" {tokens * latent} tokens, which {size} GPUs cannot share out evenly."
                )


def profile_loops(profile: Profile) -> bool:
    return "loop" in profile.honours


def share_out(pipe: Any, member: Member) -> list[Any]:
    """Share the networks out. Returns what `rejoin` needs when the group is a new one."""
    configs = []
    for each in denoisers(pipe):
        network: Any = each
        config = ContextParallelConfig(ulysses_degree=member.each, mesh=member.mesh)
        with _counted_as_one_device(member.device):
            network.enable_parallelism(config=config, cp_plan=_plan(network))
        for attention in _with_whole_text(network):
            attention.processor._parallel_config = None
        configs.append(config)
    return configs


def rejoin(configs: list[Any], member: Member) -> None:
    """Let networks that are shared out talk to a new group."""
    for config in configs:
        config.setup(member.rank, member.size, member.device, member.mesh)


@contextmanager
def _counted_as_one_device(device: torch.device) -> Iterator[None]:
    """The library divides by the number of accelerators, which is 0 without any."""
    if device.type != "cpu":
        yield
        return
    with patch("torch.accelerator.device_count", return_value=1):
        yield


def _plan(network: torch.nn.Module) -> dict[str, Any] | None:
    """What to split; None: the library's own plan."""
    if isinstance(network, WanTransformer3DModel):
        return None
    tokens = ContextParallelInput(split_dim=1, expected_dims=3)
    times = ContextParallelInput(split_dim=1, expected_dims=2)
    plan: dict[str, Any] = {
        "": {"hidden_states": tokens, "timestep": times},
        "rope": _rotations(network),
        "proj_out": ContextParallelOutput(gather_dim=1, expected_dims=3),
    }
    if isinstance(network, LTX2VideoTransformer3DModel):
        plan["cross_attn_rope"] = _rotations(network)
    return plan


def _rotations(network: Any) -> dict[int, Any]:
    """Cosines and sines: (B, tokens, channels), or (B, heads, tokens, channels) if split."""
    split = network.config.get("rope_type") == "split"
    part = ContextParallelInput(
        split_dim=2 if split else 1, expected_dims=4 if split else 3, split_output=True
    )
    return {0: part, 1: part}


def _with_whole_text(network: torch.nn.Module) -> Iterator[Any]:
    """Attention whose keys are no tokens of the clip: they are whole in every member."""
    if isinstance(network, WanTransformer3DModel):
        return
    blocks: Any = network.transformer_blocks
    for block in blocks:
        for name in ("attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn"):
            if (attention := getattr(block, name, None)) is not None:
                yield attention
