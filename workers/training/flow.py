"""What a motion in layers looks like: the displacement of whatever is visible at a point."""

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
    body = truth.camera
    if stage.has_subject:
        body = compose(truth.camera, from_origin(truth.body, stage.centre))
    soft = [
        carried(field, path) for field, path in zip(truth.soft, (truth.camera, body), strict=True)
    ]
    return LayeredMotion(truth.camera, body, torch.stack(soft))


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
    line = (torch.arange(points) + 0.5) / points * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    homogeneous = torch.stack([x, y, torch.ones_like(x)])
    flows = []
    for layer, path in ((BACKGROUND, motion.camera), (SUBJECT, motion.body)):
        moved = torch.einsum("tck,kyx->ctyx", maps(path), homogeneous)
        flows.append(moved - homogeneous[:2, None] + resized(motion.soft[layer], points))
    shown = homogeneous[:2, None] + flows[SUBJECT]  # (2, T, n, n)
    frames = shown.shape[1]
    at = F.grid_sample(
        matte.expand(frames, 1, -1, -1), shown.permute(1, 2, 3, 0), align_corners=False
    )
    return torch.where(at[:, 0] > SEEN, flows[SUBJECT], flows[BACKGROUND])


def resized(field: Tensor, points: int) -> Tensor:
    """A field (2, T, g, g) at points x points places."""
    if field.shape[-1] == points:
        return field
    small = field.transpose(0, 1)
    large = F.interpolate(small, (points, points), mode="bicubic", align_corners=False)
    return large.transpose(0, 1)
