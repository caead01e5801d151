"""SVD by several members: each has some of the frames, exactly as one would have them all.

What a layer does within a frame needs nobody else. What it does over time does:
- a convolution over time gets one frame of each neighbour;
- a GroupNorm over time merges means and squared differences of all members (Chan et al. 1979);
- attention over time swaps frames for pixels: all frames of some pixels, and back.
So does the VAE's decoder, whose whole clip then is one chunk: chunks would change the frames.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from diffusers import StableVideoDiffusionPipeline
from diffusers.models.attention import TemporalBasicTransformerBlock
from diffusers.models.resnet import TemporalResnetBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel

from workers.engines.diffusers.members import Member, gather


def fits(pipe: Any) -> bool:
    """Whether a pipeline's networks can be shared out by frames."""
    return isinstance(pipe, StableVideoDiffusionPipeline)


class FrameShards:
    """The shares of the clip that is being made. One for a pipeline."""

    def __init__(self, member: Member):
        self._member = member
        self._counts: list[int] = []  # frames of each member

    def share_out_unet(self, unet: Any) -> None:
        """Each member computes its frames; the result is whole in all of them."""
        self._patch_layers(unet)
        forward = unet.forward

        def shared(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self._begin(sample.shape[1])
            kwargs["return_dict"] = False
            (made,) = forward(self._own(sample, 1), *args, **kwargs)
            return (self._gather(made, 1),)

        unet.forward = shared

    def share_out_decoder(self, decoder: Any) -> None:
        """As the UNet; its frames are the batch."""
        self._patch_layers(decoder)
        _wrap(decoder.time_conv_out, self._convolve)
        forward = decoder.forward

        def shared(
            sample: torch.Tensor, image_only_indicator: torch.Tensor, num_frames: int = 1
        ) -> torch.Tensor:
            self._begin(sample.shape[0])
            made = forward(
                self._own(sample, 0),
                image_only_indicator=self._own(image_only_indicator, 1),
                num_frames=self._counts[self._member.rank],
            )
            return self._gather(made, 0)

        decoder.forward = shared

    def _patch_layers(self, network: torch.nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, TemporalResnetBlock):
                for norm in (module.norm1, module.norm2):
                    _wrap(norm, self._normalise)
                for conv in (module.conv1, module.conv2):
                    _wrap(conv, self._convolve)
            elif isinstance(module, TransformerSpatioTemporalModel):
                module.time_proj.register_forward_pre_hook(self._number)
            elif isinstance(module, TemporalBasicTransformerBlock):
                _wrap(module, self._attend)

    # Shares.

    def _begin(self, frames: int) -> None:
        """Share out so many frames; the first members get what is left over."""
        size = self._member.size
        self._counts = [len(part) for part in torch.arange(frames).tensor_split(size)]

    def _own(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        own: torch.Tensor = tensor.split(self._counts, dim)[self._member.rank].contiguous()
        return own

    def _gather(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        return gather(tensor, dim, self._counts, self._member)

    # Layers.

    def _number(self, _module: torch.nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        """Frames are numbered from the clip's first, not from the member's."""
        return (args[0] + sum(self._counts[: self._member.rank]),)

    def _convolve(self, forward: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """A convolution of three frames over (B, C, t, H, W): with a frame of each neighbour."""
        rank, size = self._member.rank, self._member.size
        edges = torch.stack((x[:, :, 0], x[:, :, -1])).contiguous()  # (2, B, C, H, W)
        found = [torch.empty_like(edges) for _ in range(size)]
        dist.all_gather(found, edges)
        nothing = torch.zeros_like(edges[0])
        before = found[rank - 1][1] if rank > 0 else nothing
        after = found[rank + 1][0] if rank + 1 < size else nothing
        wide = torch.cat((before[:, :, None], x, after[:, :, None]), 2)
        return forward(wide)[:, :, 1:-1]  # the layer pads once more, beyond the neighbours

    def _normalise(
        self, _forward: Callable[..., torch.Tensor], x: torch.Tensor, norm: Any
    ) -> torch.Tensor:
        """GroupNorm of (B, C, t, H, W) over the frames of all members."""
        groups = x.reshape(x.shape[0], norm.num_groups, -1).double()  # (B, G, N)
        mean = groups.mean(-1)
        m2 = ((groups - mean[..., None]) ** 2).sum(-1)
        own = torch.stack((mean, m2, torch.full_like(mean, groups.shape[-1])))
        found = [torch.empty_like(own) for _ in range(self._member.size)]
        dist.all_gather(found, own)
        means, m2s, counts = torch.stack(found, 1)  # each (members, B, G)
        total = counts.sum(0)
        mean = (means * counts).sum(0) / total
        variance = (m2s.sum(0) + (counts * (means - mean) ** 2).sum(0)) / total
        # As the layer itself does it: one factor and one summand for each channel.
        each = x.shape[1] // norm.num_groups
        factor = torch.rsqrt(variance + norm.eps).repeat_interleave(each, 1) * norm.weight
        summand = norm.bias - mean.repeat_interleave(each, 1) * factor
        shape = (*x.shape[:2], *[1] * (x.ndim - 2))
        wide = x.float() if x.dtype != torch.float64 else x
        normed: torch.Tensor = wide * factor.view(shape).to(wide) + summand.view(shape).to(wide)
        return normed.to(x.dtype)

    def _attend(
        self,
        forward: Callable[..., torch.Tensor],
        x: torch.Tensor,
        num_frames: int,
        encoder_hidden_states: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """A block of attention over time, on (B * t, S, C): all frames of some of the pixels."""
        pixels = [len(part) for part in torch.arange(x.shape[1]).tensor_split(self._member.size)]
        batch, mine = x.shape[0] // num_frames, pixels[self._member.rank]
        x = x.unflatten(0, (batch, num_frames))  # (B, t, S, C)
        swapped = self._exchange(x, 2, pixels, 1, self._counts)  # (B, T, s, C)
        context = encoder_hidden_states
        if context is not None:  # (B * S, L, D): for each pixel
            parts = context.unflatten(0, (batch, sum(pixels))).split(pixels, 1)
            context = parts[self._member.rank].flatten(0, 1)
        frames = sum(self._counts)
        made = forward(
            swapped.flatten(0, 1), num_frames=frames, encoder_hidden_states=context
        ).reshape(batch, frames, mine, -1)
        return self._exchange(made, 1, self._counts, 2, pixels).flatten(0, 1)

    def _exchange(
        self, x: torch.Tensor, out_dim: int, out: list[int], in_dim: int, into: list[int]
    ) -> torch.Tensor:
        """Send a part along `out_dim` to each member, and put theirs together along `in_dim`."""
        rank = self._member.rank
        sent = [part.contiguous() for part in x.split(out, out_dim)]
        got = []
        for count in into:
            shape = [*x.shape]
            shape[out_dim], shape[in_dim] = out[rank], count
            got.append(x.new_empty(shape))
        flat = x.new_empty(sum(part.numel() for part in got))
        dist.all_to_all_single(
            flat,
            torch.cat([part.flatten() for part in sent]),
            [part.numel() for part in got],
            [part.numel() for part in sent],
        )
        pieces = flat.split([part.numel() for part in got])
        parts = [piece.view(part.shape) for piece, part in zip(pieces, got, strict=True)]
        return torch.cat(parts, in_dim)


def _wrap(module: Any, change: Callable[..., torch.Tensor]) -> None:
    """Let `change` do what the module's forward does; it gets that forward first."""
    forward = module.forward
    if isinstance(module, torch.nn.GroupNorm):
        module.forward = lambda x: change(forward, x, module)  # type: ignore[assignment, method-assign]
    else:
        module.forward = lambda *args, **kwargs: change(forward, *args, **kwargs)
