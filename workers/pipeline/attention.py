"""Shared context: keys and values projected once per clip instead of once per frame.

diffusers' video networks that alternate spatial and temporal layers give every frame a copy of the
context (the prompt, or SVD's picture) and project each copy. SVD's temporal layers do so for every
position of the frame. `share_context` changes a network in place:

    share_context(unet)  # or a diffusers pipeline

Nothing is approximated: rows of a softmax are independent, so the frames of a clip can share one
set of keys and values. This saves time and memory per layer, but little of a whole network's
arithmetic (SVD-XT 3.7 %, AnimateDiff 0.3-1 %).
"""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models import UNetMotionModel
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor2_0,
    FusedAttnProcessor2_0,
)
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from diffusers.models.unets.unet_3d_blocks import (
    CrossAttnDownBlock3D,
    CrossAttnUpBlock3D,
    UNetMidBlock3DCrossAttn,
)
from torch import Tensor, nn

# UNet3DConditionModel and I2VGenXLUNet are made of these.
BLOCKS_3D = (CrossAttnDownBlock3D, CrossAttnUpBlock3D, UNetMidBlock3DCrossAttn)


# diffusers' hints name one class for what may be any attention processor.
def processor_of(attn: Attention) -> object:
    return attn.processor


def set_processor(attn: Attention, processor: object) -> None:
    attn.set_processor(processor)  # type: ignore[arg-type]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, C) -> (B, heads, N, C / heads)."""
    split: Tensor = x.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


class SharedContextProcessor:
    """Cross-attention whose context is the same for all rows of a clip.

    Holds no state, so one instance may serve any number of layers, threads and shapes.
    """

    def __call__(
        self,
        attn: Attention,
        x: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend from x (B * R, N, C), where a clip's R rows are adjacent, to the clip's context.

        The context is (B, L, D), or (B, R, L, D) and equal along R. Returns (B * R, N, C).
        Raises ValueError if the rows cannot be divided evenly among the contexts.
        """
        context = encoder_hidden_states
        if context.ndim == 4:
            context = context[:, 0]
        if attention_mask is not None:
            raise ValueError("shared context does not support an attention mask")
        rows, n, _ = x.shape
        b, length, _ = context.shape
        if rows % b:
            raise ValueError(f"{rows} rows cannot share {b} contexts evenly")
        v = attn.to_v(context)  # (B, L, C)
        if length == 1:
            # Softmax over one key is 1: every query gets the one value.
            y = attn.to_out[0](v).expand(-1, rows // b, -1).reshape(rows, 1, -1).expand(-1, n, -1)
        else:
            y = attn.to_out[0](self._attend(attn, x, context, v))
        dropped: Tensor = attn.to_out[1](y)
        return dropped

    @staticmethod
    def _attend(attn: Attention, x: Tensor, context: Tensor, v: Tensor) -> Tensor:
        """What each query gets of the values v, before the output projection."""
        (rows, n, _), b = x.shape, len(context)
        # Fold the rows into the query length. Stride-0 views of K and V would miss the fused
        # kernel: half the speed, twice the memory (measured on a CPU).
        q = split_heads(attn.to_q(x).reshape(b, rows // b * n, -1), attn.heads)
        k = split_heads(attn.to_k(context), attn.heads)
        y = F.scaled_dot_product_attention(q, k, split_heads(v, attn.heads))
        return y.transpose(1, 2).reshape(rows, n, -1)


def share_context(target: Any) -> int:
    """Make every cross-attention of a network that repeats its context share the context.

    `target` is a module or a diffusers pipeline. Returns how many layers this call changed: 0 if
    all of them shared already. Weights, their names and the accepted arguments stay the same; a
    UNetMotionModel then also takes its context unrepeated, (B, L, D) for B clips.

    Raises ValueError and changes nothing if no layer fits, or if a layer has a custom attention
    processor (IP-Adapter, fused projections): call this before installing one, or not at all.
    """
    if isinstance(target, nn.Module):
        modules = list(target.modules())
    else:
        parts = getattr(target, "components", {}).values()
        modules = [m for part in parts if isinstance(part, nn.Module) for m in part.modules()]
    hooked, layers = _find(modules)
    if not layers:
        raise ValueError(
            f"{type(target).__name__} contains no network that repeats its context; supported: "
            "UNetMotionModel, UNetSpatioTemporalConditionModel, UNet3DConditionModel"
        )
    stock = [a for a in layers if not isinstance(processor_of(a), SharedContextProcessor)]
    for attn in stock:
        _check(attn)
    for module, hook in hooked:
        # Part of the network, or all of it, may have been changed before.
        if hook not in module._forward_pre_hooks.values():
            module.register_forward_pre_hook(hook, with_kwargs=True)
    for attn in stock:
        set_processor(attn, SharedContextProcessor())
    return len(stock)


def fuse_qkv(module: nn.Module) -> nn.Module:
    """A copy whose self-attention projects queries, keys and values in one product, not three.

    The same arithmetic in fewer and larger pieces. Layers with a custom processor stay as they are.
    """
    copy = deepcopy(module)
    for attn in copy.modules():
        if (
            isinstance(attn, Attention)
            and not attn.is_cross_attention
            and type(processor_of(attn)) is AttnProcessor2_0
        ):
            attn.fuse_projections()
            set_processor(attn, FusedAttnProcessor2_0())
    return copy


def _find(modules: list[nn.Module]) -> tuple[list[tuple[nn.Module, Any]], list[Attention]]:
    """The modules that know how often the context is repeated, with their hooks; and the layers."""
    hooked: list[tuple[nn.Module, Any]] = []
    layers: dict[Attention, None] = {}  # ordered and without duplicates: pipelines share parts
    for module in modules:
        if isinstance(module, UNetMotionModel):
            hooked.append((module, _once_per_clip))
        elif isinstance(module, BLOCKS_3D):
            hooked.append((module, _once_per_clip_3d))
        elif isinstance(module, TransformerSpatioTemporalModel):
            hooked.append((module, _frames_apart))
        elif isinstance(module, TemporalBasicTransformerBlock):
            hooked.append((module, _once_per_clip_temporal))
            if module.attn2 is not None:
                layers[module.attn2] = None
            continue
        else:
            continue
        for part in module.modules():
            # Temporal attention has a second self-attention in place of cross-attention.
            if isinstance(part, BasicTransformerBlock) and part.attn2 is not None:
                if part.only_cross_attention and part.attn1.is_cross_attention:
                    layers[part.attn1] = None
                if part.attn2.is_cross_attention:
                    layers[part.attn2] = None
    return hooked, list(layers)


def _check(attn: Attention) -> None:
    """Raise ValueError unless a layer is of the plain kind that SharedContextProcessor computes."""
    if type(processor_of(attn)) is not AttnProcessor2_0:
        raise ValueError(
            f"a cross-attention layer has the processor {type(processor_of(attn)).__name__}; "
            "context can be shared only with diffusers' default processor"
        )
    parts = (attn.spatial_norm, attn.group_norm, attn.norm_cross, attn.norm_q, attn.norm_k)
    if any(parts) or attn.residual_connection or attn.rescale_output_factor != 1:
        raise ValueError("cross-attention layers with norms or a residual are not supported")


def _once_per_clip(
    unet: UNetMotionModel, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Undo the repetition that AnimateDiff's pipelines do before they call the network."""
    names = ("sample", "timestep", "encoder_hidden_states")
    kwargs = dict(zip(names, args, strict=False)) | kwargs
    args = args[len(names) :]
    sample, context = kwargs["sample"], kwargs["encoder_hidden_states"]
    b, t = sample.shape[0], sample.shape[2]
    if len(context) == b * t and t > 1:
        frames = context.unflatten(0, (b, t))
        # Prompts that change over the clip (FreeNoise) differ between frames and must stay. A graph
        # cannot branch on values; to build one, pass the context unrepeated.
        tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if tracing or bool((frames == frames[:, :1]).all()):
            kwargs["encoder_hidden_states"] = frames[:, 0]
    elif len(context) != b:
        raise ValueError(f"{len(context)} contexts fit neither {b} clips nor their {t} frames")
    return args, kwargs


def _once_per_clip_3d(
    block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """UNet3DConditionModel itself repeats B contexts num_frames times."""
    context = kwargs["encoder_hidden_states"]
    return args, kwargs | {"encoder_hidden_states": context[:: kwargs["num_frames"]]}


def _frames_apart(
    block: TransformerSpatioTemporalModel, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(B * T, L, D) -> (B, T, L, D), from which SVD's layer can still take the first frame's."""
    frames = kwargs["image_only_indicator"].shape[-1]
    context = kwargs["encoder_hidden_states"].unflatten(0, (-1, frames))
    return args, kwargs | {"encoder_hidden_states": context}


def _once_per_clip_temporal(
    block: TemporalBasicTransformerBlock, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """SVD's temporal layers get one copy of the context for each position of the frame."""
    positions = args[0].shape[1]  # hidden states (B * T, H * W, C)
    context = kwargs["encoder_hidden_states"]
    return args, kwargs | {"encoder_hidden_states": context[::positions]}
