"""The state that the layered model denoises, and the motion that it stands for.

A state is (B, 8, T, g, g), two channels each, x and y: the camera; the subject's motion relative to
the camera, around the subject's centre; what is soft in the background; what is soft in the
subject. The first two are affine fields: the noise is, the network's output is, and the sampler
only adds and scales, so what is rigid stays rigid by construction. Around its own centre, a spin or
a pulse is the same for every subject.

The soft fields lie on the picture as it is at time 0 and move along with their layer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.pipeline.affine import basis_like, compose, from_origin, to_path
from workers.pipeline.asked import Asked
from workers.pipeline.asked_only import (
    camera_only,
    carried_body,
    moves_subject,
    rooted,
    soft_layers,
    starts_inside,
)
from workers.pipeline.grid import place
from workers.pipeline.layers import LayeredMotion, maps

CHANNELS = 8
AFFINE_LAYERS, SOFT_LAYERS = 2, 2
CAMERA, BODY = slice(0, 2), slice(2, 4)
AFFINE, SOFT = slice(0, 4), slice(4, 8)
# A matte that covers less or more of the picture than this shows no subject.
LEAST_COVER, MOST_COVER = 0.004, 0.92
# Where the gate's probability is lower than the first, nothing is soft; above the second all is.
GATE_CLOSED, GATE_OPEN = 0.15, 0.5
# Motions of a body that would show where the picture's lower edge cuts it off.
ROOTED = frozenset({"sway", "bob", "pulse"})


def has_subject(matte: Tensor) -> Tensor:
    """Whether mattes (..., h, w) in [0, 1] show a subject, (...)."""
    cover = matte.mean((-2, -1))
    return (cover >= LEAST_COVER) & (cover <= MOST_COVER)


def centre_of(matte: Tensor) -> Tensor:
    """The centres of the subjects in mattes (..., g, g), in half sides, (..., 2), or the middle."""
    weight = matte.sum((-2, -1)).clamp(min=1e-6)
    xy = basis_like(matte.shape[-1], matte.device, matte.dtype)[:2]
    at = torch.einsum("...yx,cyx->...c", matte, xy)
    return torch.where(has_subject(matte)[..., None], at / weight[..., None], 0.0)


def channel_scales(scales: tuple[float, ...], like: Tensor) -> Tensor:
    """Half sides per unit of each channel, (8, 1, 1, 1), from those of the four pairs."""
    pairs = torch.tensor(scales, device=like.device, dtype=torch.float32)
    return pairs.repeat_interleave(2)[:, None, None, None]


def gate(probability: Tensor) -> Tensor:
    """How much of a soft field remains where it is real with this probability: exactly 0 or 1
    where the network is sure."""
    t = ((probability - GATE_CLOSED) / (GATE_OPEN - GATE_CLOSED)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def open_gate(probability: Tensor, asked: Asked | None) -> Tensor:
    """How much of the soft fields remains, (2, g, g), in the layers that may bend."""
    may = torch.tensor(soft_layers(asked), device=probability.device)
    return gate(probability) * may[:, None, None]


def layered_motion(
    state: Tensor,
    matte: Tensor,
    probability: Tensor,
    asked: Asked | None = None,
    lower_edge: float | None = None,
) -> LayeredMotion:
    """The motion of one clip.

    state (8, T, g, g) in half sides; matte (g, g) in [0, 1]; probability (2, g, g) that background
    and subject are soft. asked: what the prompt wants, and nothing else moves; None: unknown, so
    all motion is kept as it is. lower_edge: y of the picture's lower edge; what that cuts off is
    rooted there.
    """
    camera = to_path(state[CAMERA])
    if asked is not None:
        camera = camera_only(camera, asked)
    layers = state[SOFT].reshape(SOFT_LAYERS, 2, *state.shape[1:])
    soft = layers * open_gate(probability, asked)[:, None, None]
    if not has_subject(matte):
        soft = torch.stack([soft[0], torch.zeros_like(soft[1])])
        soft = torch.stack([carried(soft[0], camera), soft[1]])
        background, _ = starts_inside(asked)
        return LayeredMotion(camera, camera, soft, (background, background))
    if asked is None or moves_subject(asked):
        own = from_origin(to_path(state[BODY]), centre_of(matte))
        if asked is not None and lower_edge is not None and asked.object in ROOTED:
            rows = place(matte.shape[-1])[1, :, 0][matte.amax(1) > 0.5]
            half_cell = 1 / matte.shape[-1]
            if len(rows) > 1 and rows[-1] + half_cell > lower_edge - half_cell:
                own = rooted(own, rows[0].item() - half_cell, lower_edge)
        body = compose(camera, own)
    else:
        body = carried_body(camera, asked)
    moved = [carried(field, path) for field, path in zip(soft, (camera, body), strict=True)]
    return LayeredMotion(camera, body, torch.stack(moved), starts_inside(asked))


def carried(field: Tensor, path: Tensor) -> Tensor:
    """A field (2, T, g, g) that lies on a layer, as seen in the frames: it moves along.

    path (T, 2, 3)
    """
    if not field.any():
        return field
    x, y = place(field.shape[-1])
    at = torch.einsum("tck,kyx->tyxc", maps(path), torch.stack([x, y, torch.ones_like(x)]))
    moved = F.grid_sample(field.transpose(0, 1), at, mode="bilinear", align_corners=False)
    return moved.transpose(0, 1)
