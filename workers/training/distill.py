"""Distil guidance and steps at once: one pass of the student replaces many of the teacher's.

    python -m workers.training.distill --teacher runs/motion/model --photos photos \\
        --out runs/student

The student starts as a copy of the teacher and is sampled with DDIM at every (32 / steps)-th of the
teacher's 32 noise levels. From such a level the teacher takes its own DDIM steps, with full
guidance, to the student's next level. The student's target is the x0 with which one DDIM step
arrives there, too (Meng et al. 2022, arXiv:2210.03142, both stages in one; Salimans & Ho 2022,
arXiv:2202.00512, for the inverted step). With some probability the starting point lies on the
student's own path instead of on noised data, so that it learns to correct its own errors ("backward
distillation", Kohler et al. 2024, arXiv:2405.05224). Where anything is soft is no denoising; the
student keeps to what the teacher says of it.
"""

import argparse
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.pipeline.animation import pick_dtype
from workers.pipeline.attention import share_context
from workers.pipeline.guidance import ClipDenoiser
from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.loader import STUDENT, TEACHER, Sampling, load_config, load_network
from workers.pipeline.noise import LayeredNoise
from workers.pipeline.sampler import TEACHER_STEPS, DPMSolver, sigmas_for
from workers.pipeline.text import Tokeniser
from workers.training.photos import PhotoSet
from workers.training.run import State, add_arguments, device, fast, optimise
from workers.training.scenes import Batch, make_batch
from workers.training.train import (
    LAYER_SCALES,
    SAMPLING,
    SOFTNESS_SHARE,
    path_errors,
    soft_error,
    state_of,
)

OWN_PATH = 0.3  # share of the batches that start on the student's own path


def one_step_target(x: Tensor, landed: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The x0 with which one DDIM step from noise ratio `start` to `end` takes x to `landed`.

    x and landed are signal + sigma * noise; DDIM is landed = r x + (1 - r) x0, r = end / start.
    """
    ratio = (end / start).item()
    return (landed - ratio * x) / (1 - ratio)


@torch.no_grad()
def land(denoise: ClipDenoiser, x: Tensor, levels: Tensor, first: int, substeps: int) -> Tensor:
    """Where the teacher arrives: `substeps` DDIM steps from levels[first]."""
    return DPMSolver(levels[first : first + substeps + 1], order=1).sample(denoise, x)


def beginning(draw: torch.Generator, steps: int, own_path: float = OWN_PATH) -> tuple[int, bool]:
    """Which of the student's levels a step is about, and whether it starts on its own path."""
    k = int(torch.randint(steps, (1,), generator=draw))
    return k, torch.rand(1, generator=draw).item() < own_path and k > 0


def distillation_loss(
    student: LayeredDenoiser,
    teacher: LayeredDenoiser,
    guidance: Sampling,
    noise: LayeredNoise,
    batch: Batch,
    draw: torch.Generator,
    *,
    begin: tuple[int, bool],
    steps: int,
    teacher_steps: int = TEACHER_STEPS,
    scales: tuple[float, ...] = LAYER_SCALES,
) -> Tensor:
    """Squared error of the student's x0 against the target, measured as in training.

    The batch has one motion for each picture. `teacher` must share its context; `guidance` is how
    it is sampled. All scenes start at the same noise level, `begin` (see `beginning`). Raises
    ValueError if `steps` does not divide `teacher_steps`.
    """
    if teacher_steps % steps:
        raise ValueError(f"{steps} steps do not divide the teacher's {teacher_steps}")
    place = next(student.parameters()).device
    batch = batch.to(place)
    motion = torch.cat(state_of(batch, scales), 1)
    picture, tokens, there = batch.picture, batch.tokens, batch.has_subject
    energy = torch.stack([batch.energies[:, i] / s**2 for i, s in enumerate(scales)], 1)
    levels = sigmas_for("log-snr", teacher_steps)
    substeps = teacher_steps // steps
    own = levels[::substeps]
    k, along_own_path = begin
    epsilon = noise.draw(len(motion), draw)
    plain = Sampling(steps=steps, guided=False, order=1)
    with fast(place):
        if along_own_path:
            with torch.no_grad():
                walk = ClipDenoiser(student, picture, tokens, plain)
                x = DPMSolver(own[: k + 1], order=1).sample(walk, epsilon * own[0].item())
        else:
            x = motion + own[k].item() * epsilon
        with torch.no_grad():
            guided = ClipDenoiser(
                teacher, picture, tokens, guidance, teacher.one_pass(repeat=False)
            )
            landed = land(guided, x, levels, k * substeps, substeps)
            target = one_step_target(x, landed, own[k], own[k + 1])
            soft = guided.softness()
        denoise = ClipDenoiser(student, picture, tokens, plain)
        v, scaled, signal, share = denoise.velocity(x, own[k])
        logits = student.softness(denoise.static_features, denoise.pooled_text)
    # As in training: the error of x0.
    error = share * (v - (scaled * signal - target) / share)
    camera, body = path_errors(error[:, :4], energy[:, :2], there)
    where = F.binary_cross_entropy_with_logits(logits.float(), soft)
    return camera + body + soft_error(noise, error[:, 4:], energy[:, 2:]) + SOFTNESS_SHARE * where


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Distil the student of motion-small.")
    add_arguments(parser, steps=1500, batch=8, lr=2e-4)
    parser.set_defaults(ema=0.99, warmup_steps=20)
    add = parser.add_argument
    add("--teacher", type=Path, required=True, help="a model directory")
    add("--photos", type=Path, help="a folder that prepare.py wrote")
    add("--student-steps", type=int, default=4, help="steps to train the student for")
    add("--init", type=Path, help="start from this model's student; default: from the teacher")
    add("--picture-scale", type=float, help="guidance of the teacher; default: its own")
    add("--text-scale", type=float)
    add("--rescale", type=float)
    return parser.parse_args(argv)


def distil(args: argparse.Namespace) -> State:
    """Distil. Returns the last saved state. Raises CheckpointError, OSError for bad inputs."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = load_config(args.teacher)
    given = {
        name: getattr(args, name)
        for name in ("picture_scale", "text_scale", "rescale")
        if getattr(args, name) is not None
    }
    guidance = replace(config.sampling[TEACHER], **given)
    served = replace(SAMPLING[STUDENT], steps=args.student_steps)
    config = replace(config, sampling={TEACHER: guidance, STUDENT: served})
    place = device()
    start = (args.init, STUDENT) if args.init else (args.teacher, TEACHER)
    student = load_network(*start, config, torch.float32, place.type)
    dtype = pick_dtype("auto", place.type)
    teacher = load_network(args.teacher, TEACHER, config, dtype, place.type)
    student.train().requires_grad_(True)
    share_context(teacher.unet)
    noise = LayeredNoise(config.network.frames, config.network.grid, place)
    known = frozenset(config.vocabulary)
    tokenise = Tokeniser(config.network.caption_length, config.network.buckets, known)
    photos = None if args.photos is None else PhotoSet.load(args.photos, held_out=False)
    # Neither the teacher's training nor an evaluation uses these scenes.
    series = args.seed + 1

    def make(step: int) -> Batch:
        return make_batch(series, step, args.batch, 1, tokenise, photos, mislabelled=0.0)

    def begin(step: int) -> tuple[int, bool]:
        draw = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        return beginning(draw, args.student_steps)

    def loss_of(
        batch: Batch, kind: Hashable, draw: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(kind, tuple)
        given = (student, teacher, guidance, noise, batch, draw)
        loss = distillation_loss(*given, begin=kind, steps=args.student_steps)
        return loss, {}

    return optimise(args, student, config, STUDENT, loss_of, make, begin)


if __name__ == "__main__":
    distil(parse_args())
