"""What a motion in layers looks like: the displacement of whatever is visible at a point."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.pipeline.affine import compose, from_origin
from workers.pipeline.layer_state import carried
from workers.pipeline.layers import BACKGROUND, SUBJECT, LayeredMotion, maps
from workers.training.motions import Freedom, Stage, Truth, freedoms, truth_of
from workers.training.scenes import Scene

SEEN = 0.5  # a point of the matte above this shows the subject


def motion_of(truth: Truth, stage: Stage) -> LayeredMotion:
    """A truth as the renderer takes it."""
    return motions_of([truth], stage)[0]


def motions_of(truths: Sequence[Truth], stage: Stage) -> list[LayeredMotion]:
    """Several truths of one picture as the renderer takes them."""
    cameras = torch.stack([truth.camera for truth in truths])
    bodies = cameras
    if stage.has_subject:
        own = torch.stack([truth.body for truth in truths])
        bodies = compose(cameras, from_origin(own, stage.centre))
    found = []
    for truth, camera, body in zip(truths, cameras, bodies, strict=True):
        background, subject = truth.soft
        soft = torch.stack([carried(background, camera), carried(subject, body)])
        found.append(LayeredMotion(camera, body, soft))
    return found


def possible_motions(scene: Scene) -> list[tuple[Freedom, LayeredMotion]]:
    """Every motion that a scene's words allow."""
    return [
        (free, motion_of(truth_of(scene.kind, scene.stage, scene.amount, free), scene.stage))
        for free in freedoms(scene.kind)
    ]


def visible_flow(motion: LayeredMotion, matte: Tensor, points: int) -> Tensor:
    """The displacement at points x points places of the frames, (2, T, n, n) in half sides.

    matte (p, p). Where the moved subject is, its motion is visible; elsewhere the background's.
    """
    return visible_flows([motion], matte, points)[0]


def visible_flows(motions: Sequence[LayeredMotion], matte: Tensor, points: int) -> Tensor:
    """`visible_flow` of several motions of one picture, (N, 2, T, n, n)."""
    line = (torch.arange(points) + 0.5) / points * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    homogeneous = torch.stack([x, y, torch.ones_like(x)])
    flows = []
    for layer in (BACKGROUND, SUBJECT):
        paths = torch.stack([m.camera if layer == BACKGROUND else m.body for m in motions])
        soft = torch.stack([motion.soft[layer] for motion in motions])
        moved = torch.einsum("ntck,kyx->nctyx", maps(paths), homogeneous)
        flows.append(moved - homogeneous[:2, None] + resized(soft, points))
    shown = homogeneous[:2, None] + flows[SUBJECT]  # (N, 2, T, n, n)
    places = shown.permute(0, 2, 3, 4, 1).flatten(0, 1)
    at = F.grid_sample(matte.expand(len(places), 1, -1, -1), places, align_corners=False)
    seen = at.view(len(motions), 1, -1, points, points)
    return torch.where(seen > SEEN, flows[SUBJECT], flows[BACKGROUND])


def resized(fields: Tensor, points: int) -> Tensor:
    """Fields (..., g, g) at points x points places."""
    if fields.shape[-1] == points:
        return fields
    small = fields.reshape(1, -1, *fields.shape[-2:])
    large = F.interpolate(small, (points, points), mode="bicubic", align_corners=False)
    return large.view(*fields.shape[:-2], points, points)
