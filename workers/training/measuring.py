"""Which motion of the vocabulary a sampled motion is nearest to, and how far off it is.

Words leave directions open: a motion counts as the nearest of those that its words allow. What it
is compared with, and how closely, must be such that the truth is found even a tenth too weak or too
strong (decisions 102 and 114).
"""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.pipeline.layers import LayeredMotion
from workers.training.captions import Motion
from workers.training.flow import SEEN, motions_of, visible_flow, visible_flows
from workers.training.motions import (
    BACKGROUND,
    SOFT,
    SUBJECT,
    freedoms,
    target_of,
    truth_of,
)
from workers.training.phrases import CAMERA, OBJECT
from workers.training.probe import POINTS, nearest, strengths_of
from workers.training.scenes import Scene

FOUND_POINTS = 16  # places along each side at which motions are compared with the vocabulary
STILL_PX = 0.5  # root mean square, of a 512 px picture; less is as good as nothing
STILL = STILL_PX / 256
# So is less than this share of what was asked to move there. Where a subject drifts along with a
# pan, the two cancel, and what is left in the frame is only how strong each came out.
TOLERANCE = 0.2


@dataclass(frozen=True)
class Verdict:
    """What a motion that was sampled for a scene is."""

    found: Motion
    error_px: float  # mean end-point error of a 512 px picture
    strength: float  # of the camera, as a share of the true one; nan for a still camera


def vocabulary(scene: Scene) -> list[Motion]:
    """Every motion that can be told apart in a scene with a subject, at the scene's strength."""
    strength = scene.kind.strength
    pairs = [
        Motion(camera, thing, strength, target)
        for camera, thing, target in product(CAMERA, OBJECT, (SUBJECT, BACKGROUND))
        if thing != "still" and (target == SUBJECT or thing in SOFT or camera == "still")
    ]
    pairs += [Motion(camera, "still", strength) for camera in CAMERA if camera != "still"]
    twin = twin_of(resolved(scene))
    return [kind for kind in pairs if kind != twin]


def twin_of(kind: Motion) -> Motion | None:
    """The motion that differs from `kind` in strength alone, if there is one.

    A camera that pans along with a drifting subject shows a background that drifts the other way
    behind a subject at rest.
    """
    for way, back in (("left", "right"), ("right", "left")):
        along = Motion(f"pan {way}", f"drift {way}", kind.strength, SUBJECT)
        behind = Motion("still", f"drift {back}", kind.strength, BACKGROUND)
        if kind in (along, behind):
            return behind if kind == along else along
    return None


def resolved(scene: Scene) -> Motion:
    """What is asked of a scene, with the target that the words leave to the picture."""
    return replace(scene.kind, target=target_of(scene.kind, scene.stage))


def candidates(scene: Scene) -> tuple[list[Motion], Tensor]:
    """All motions of the vocabulary in all their ways, and their flows (K, 2, T, n, n)."""
    ways = [(kind, free) for kind in vocabulary(scene) for free in freedoms(kind)]
    truths = [truth_of(kind, scene.stage, scene.amount, free) for kind, free in ways]
    matte = torch.from_numpy(scene.picture.matte)
    flows = visible_flows(motions_of(truths, scene.stage), matte, FOUND_POINTS)
    return [kind for kind, _ in ways], flows.half()


def likeness(flow: Tensor, others: Tensor, matte: Tensor, quiet: tuple[float, float]) -> Tensor:
    """How alike a flow (2, T, n, n) is to others (K, 2, T, n, n), (K,): at most 2.

    (2 <u, v> + q) / (|u|^2 + |v|^2 + q), for the subject and for the background by itself: a small
    subject counts as much as what is behind it. quiet: q of either, as a mean square.
    """
    subject = subject_points(matte, flow.shape[-1])
    total = torch.zeros(len(others))
    for region, least in zip((subject, ~subject), quiet, strict=True):
        if not region.any():  # would be 0 / 0, the same for every motion
            continue
        u, v = flow[..., region].flatten(), others[..., region].float().flatten(1)
        q = least * u.numel()
        total += (2 * v @ u + q) / (v.square().sum(1) + u.square().sum() + q)
    return total


def quiet_of(scene: Scene) -> tuple[float, float]:
    """The mean squares, in subject and background, of differences that are as good as none.

    They grow with what the camera and the object motion that were asked for do there by themselves.
    """
    parts = [replace(scene.kind, object="still", target=""), replace(scene.kind, camera="still")]
    truths = [truth_of(kind, scene.stage, scene.amount, scene.free) for kind in parts]
    matte = torch.from_numpy(scene.picture.matte)
    flows = visible_flows(motions_of(truths, scene.stage), matte, FOUND_POINTS)
    subject = subject_points(matte, FOUND_POINTS)
    here, behind = (
        STILL**2 + TOLERANCE**2 * sum(flow[..., region].square().mean().item() for flow in flows)
        if region.any()
        else STILL**2
        for region in (subject, ~subject)
    )
    return here, behind


def subject_points(matte: Tensor, points: int) -> Tensor:
    """Which of points x points places belong to the subject, (n, n) bool: those mostly covered.

    A thin subject covers most of none: then those whose middle it covers, as `visible_flow` shows
    it.
    """
    covered = F.adaptive_avg_pool2d(matte[None], points)[0] > SEEN
    if covered.any():
        return covered
    middle = F.interpolate(matte[None, None], (points, points), mode="bilinear")[0, 0]
    return middle > SEEN


def judge(given: tuple[Scene, Sequence[LayeredMotion]]) -> list[Verdict]:
    """The verdict on each motion of a scene. The vocabulary's motions are made once for all."""
    scene, motions = given
    names, others = candidates(scene)
    matte = torch.from_numpy(scene.picture.matte)
    quiet = quiet_of(scene)
    verdicts = []
    for motion in motions:
        few = visible_flow(motion, matte, FOUND_POINTS)
        found = names[int(likeness(few, others, matte, quiet).argmax())]
        error_px = nearest(visible_flow(motion, matte, POINTS), scene)[0]
        verdicts.append(Verdict(found, error_px, float(strengths_of([motion], [scene])[0])))
    return verdicts


def judge_all(
    given: Sequence[tuple[Scene, Sequence[LayeredMotion]]], processes: int = 1
) -> list[list[Verdict]]:
    """`judge` for several scenes, in several processes."""
    if processes == 1:
        return [judge(each) for each in given]
    context = multiprocessing.get_context("fork")
    with context.Pool(processes, torch.set_num_threads, (1,)) as pool:
        return pool.map(judge, given, chunksize=4)
