"""Which motion of the vocabulary a sampled motion is nearest to, and how far off it is.

Words leave directions open: a motion counts as the nearest of those that its words allow.
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
    return pairs + [Motion(camera, "still", strength) for camera in CAMERA if camera != "still"]


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


def likeness(flow: Tensor, others: Tensor, matte: Tensor) -> Tensor:
    """How alike a flow (2, T, n, n) is to others (K, 2, T, n, n), (K,): at most 2.

    2 <u, v> / (|u|^2 + |v|^2), for the subject and for the background by itself: a small subject
    counts as much as what is behind it.
    """
    subject = subject_points(matte, flow.shape[-1])
    total = torch.zeros(len(others))
    for region in (subject, ~subject):
        if not region.any():  # would be 0 / 0, the same for every motion
            continue
        u, v = flow[..., region].flatten(), others[..., region].float().flatten(1)
        quiet = STILL**2 * u.numel()
        total += (2 * v @ u + quiet) / (v.square().sum(1) + u.square().sum() + quiet)
    return total


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
    verdicts = []
    for motion in motions:
        few = visible_flow(motion, matte, FOUND_POINTS)
        found = names[int(likeness(few, others, matte).argmax())]
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
