"""The VAEs of Wan, LTX-Video and LTX-2 by several members: each has some of the rows.

They normalise over channels only, so what a layer does in one pixel needs nobody else. What looks
at other rows does:
- a convolution gets the neighbours' rows that it reaches, and pads at the picture's edge only;
- attention within a frame has its own queries, and the keys and values of all members.
Nothing is computed twice and there are no seams. The result is that of one process, but for the
order of sums. Wan's memory of earlier frames (`_feat_map`) is shared out in the same way, and its
latent frames are still coded one by one.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from diffusers import AutoencoderKLLTX2Video, AutoencoderKLLTXVideo, AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanResample,
)

from app.domain.job.profiles import Profile
from workers.engines.diffusers.members import Member, gather
from workers.engines.diffusers.unusable import Unusable

VAES = (AutoencoderKLWan, AutoencoderKLLTXVideo, AutoencoderKLLTX2Video)
ROWS = -2  # of (..., H, W)


def fits(pipe: Any) -> bool:
    """Whether a pipeline's VAE can be shared out by rows."""
    vae: Any = pipe.vae
    return isinstance(vae, VAES) and not getattr(vae, "use_tiling", False)


def check(profile: Profile, pipe: Any, size: int) -> None:
    """Raises Unusable for a VAE that draws noise, and for pictures with too few rows."""
    vae = pipe.vae
    if any(getattr(each, "per_channel_scale1", None) is not None for each in vae.modules()):
        raise Unusable("parallel: a VAE that adds noise between its layers cannot be shared out.")
    convolutions = [each for each in vae.modules() if isinstance(each, torch.nn.Conv3d)]
    # A reflection at the edge is of the second row.
    least = 2 if any(each.padding_mode == "reflect" for each in convolutions) else 1
    for clip in profile.sizes:
        rows = clip.height // vae.spatial_compression_ratio
        if rows < least * size:
            raise Unusable(
                f"parallel: the VAE has {rows} rows of {clip.width}x{clip.height}, but {size} GPUs"
                f" need {least * size}."
            )


class RowShards:
    """The rows of each member, of the frames that are being coded. One for a pipeline."""

    def __init__(self, vae: Any, member: Member):
        self._member = member
        self._rows: list[int] = []  # latent rows of each member
        for network in (vae.encoder, vae.decoder):
            for module in network.modules():
                if isinstance(module, WanAttentionBlock):
                    module.forward = _bound(self._attend, module)  # type: ignore[method-assign]
                elif isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
                    self._share_out_convolution(module)
                elif isinstance(module, WanResample):
                    _let_pad_columns_only(module)
        # Wan's encoder gets pixels that are folded into channels already.
        wan = issubclass(type(vae), AutoencoderKLWan)
        folded = (vae.config.patch_size or 1) if wan else 1
        pixels = vae.spatial_compression_ratio // folded
        vae.encoder.forward = _bound(self._encode, vae.encoder.forward, pixels)
        vae.decoder.forward = _bound(self._decode, vae.decoder.forward)

    # Networks.

    def _encode(
        self, forward: Callable[..., Any], pixels: int, x: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Pixels to latents, (B, C, T, h, w), whole in every member."""
        if x.shape[2] == 1:  # a picture, not the blank frames that follow it
            # Different ones could not be noticed later: all members get the same mixture.
            self._member.check_same("The pictures", [x])
        self._rows = self._shares(x.shape[ROWS] // pixels)
        own = x.split([rows * pixels for rows in self._rows], ROWS)[self._member.rank]
        return gather(forward(own.contiguous(), *args, **kwargs), 3, self._rows, self._member)

    def _decode(
        self, forward: Callable[..., Any], x: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Latents to pixels, (B, C, T, H, W): all of them in the leader, own rows in others."""
        self._rows = self._shares(x.shape[ROWS])
        own = x.split(self._rows, ROWS)[self._member.rank]
        return self._to_leader(forward(own.contiguous(), *args, **kwargs))

    def _shares(self, rows: int) -> list[int]:
        """Rows of each member; the first ones get what is left over."""
        return [len(part) for part in torch.arange(rows).tensor_split(self._member.size)]

    # Layers.

    def _share_out_convolution(self, module: Any) -> None:
        """Neighbours' rows instead of padding. A member's height is a multiple of the stride."""
        reach, stride = module.dilation[ROWS] * (module.kernel_size[ROWS] - 1), module.stride[ROWS]
        if isinstance(module, WanCausalConv3d):
            before = module._padding[2]
            module._padding = (*module._padding[:2], 0, 0, *module._padding[4:])
        else:
            before = module.padding[ROWS]
            module.padding = (*module.padding[:-2], 0, module.padding[-1])
            # Columns, rows and frames, each twice: for modes other than zeros.
            sides = [*module._reversed_padding_repeated_twice]
            module._reversed_padding_repeated_twice = [*sides[:2], 0, 0, *sides[4:]]
        after = reach + 1 - stride - before
        if before or after:
            edge = module.padding_mode == "reflect"
            module.forward = _bound(self._convolve, module.forward, before, after, edge)

    def _convolve(
        self,
        forward: Callable[..., torch.Tensor],
        before: int,
        after: int,
        reflect: bool,
        x: torch.Tensor,
        cache_x: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """A convolution of own rows; `cache_x` has frames before those of `x`."""
        if cache_x is None:
            return forward(self._with_neighbours(x, before, after, reflect))
        frames = torch.cat((cache_x, x), 2)
        wide = self._with_neighbours(frames, before, after, reflect)
        cached = cache_x.shape[2]
        return forward(wide[:, :, cached:], wide[:, :, :cached])

    def _attend(self, block: Any, x: torch.Tensor) -> torch.Tensor:
        """WanAttentionBlock.forward of (B, C, T, h, W), with keys and values of all rows."""
        batch, width = x.shape[0], x.shape[-1]
        frames = x.transpose(1, 2).flatten(0, 1)  # (B * T, C, h, W)
        qkv = block.to_qkv(block.norm(frames)).flatten(2).transpose(1, 2)  # (B * T, h * W, 3 C)
        # A latent row is a multiple of rows on levels that are less deep.
        level = x.shape[ROWS] // self._rows[self._member.rank]
        tokens = [rows * level * width for rows in self._rows]
        query, own = qkv.split((x.shape[1], 2 * x.shape[1]), -1)
        key, value = gather(own, 1, tokens, self._member)[:, None].chunk(2, -1)
        made = torch.nn.functional.scaled_dot_product_attention(query[:, None], key, value)
        made = made[:, 0].transpose(1, 2).reshape(frames.shape)
        changed: torch.Tensor = block.proj(made).unflatten(0, (batch, -1)).transpose(1, 2)
        return changed + x

    # Rows on their way.

    def _with_neighbours(
        self, x: torch.Tensor, before: int, after: int, reflect: bool
    ) -> torch.Tensor:
        """Own rows, with `before` rows above them and `after` below."""
        rank, last = self._member.rank, self._member.size - 1
        height = x.shape[ROWS]
        above, below = _edge(x, before, 1, reflect), _edge(x, after, height - 1 - after, reflect)
        moves = []
        if rank > 0:
            moves += _move(dist.irecv, above, rank - 1)
            moves += _move(dist.isend, x.narrow(ROWS, 0, after), rank - 1)
        if rank < last:
            moves += _move(dist.isend, x.narrow(ROWS, height - before, before), rank + 1)
            moves += _move(dist.irecv, below, rank + 1)
        _finish(moves)
        return torch.cat((above, x, below), ROWS)

    def _to_leader(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of all members in the leader; own rows in the others."""
        rank, rows = self._member.rank, self._rows
        if rank > 0:
            _finish(_move(dist.isend, x, 0))
            return x
        each = x.shape[ROWS] // rows[0]  # pixels in a latent one
        parts, moves = [x], []
        for other in range(1, self._member.size):
            parts.append(x.new_empty(*x.shape[:-2], rows[other] * each, x.shape[-1]))
            moves += _move(dist.irecv, parts[-1], other)
        _finish(moves)
        return torch.cat(parts, ROWS)


def _bound(change: Callable[..., Any], *first: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: change(*first, *args, **kwargs)


def _let_pad_columns_only(module: WanResample) -> None:
    """Wan pads before it halves: one column, and one row that is the next member's."""
    if isinstance(module.resample, torch.nn.Sequential) and isinstance(
        pad := module.resample[0], torch.nn.ZeroPad2d
    ):
        pad.padding = (*pad.padding[:2], 0, 0)


def _edge(x: torch.Tensor, rows: int, first: int, reflect: bool) -> torch.Tensor:
    """So many rows beyond a picture's edge: zeros, or those from `first` on, upside down."""
    if reflect:
        return x.narrow(ROWS, first, rows).flip(ROWS).contiguous()
    return x.new_zeros(*x.shape[:-2], rows, x.shape[-1])


def _move(what: Callable[..., Any], rows: torch.Tensor, other: int) -> list[dist.P2POp]:
    return [dist.P2POp(what, rows.contiguous(), other)] if rows.shape[ROWS] else []


def _finish(moves: list[dist.P2POp]) -> None:
    if moves:
        for work in dist.batch_isend_irecv(moves):
            work.wait()
