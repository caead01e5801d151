"""Distil guidance and steps at once: one pass of the student replaces many of the teacher's.

    python -m workers.training.layered.distill --teacher runs/motion/model --photos photos \\
        --out runs/student

As workers/training/distill.py describes it, for states in layers (layer_state.py): from one of the
student's noise levels the teacher takes its DDIM steps, with guidance, to the student's next level,
and the student's target is the x0 with which one step arrives there, too. Where anything is soft is
no denoising; the student keeps to what the teacher says of it.
"""

import argparse
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
from workers.training.distill import OWN_PATH, land, one_step_target
from workers.training.layered.photos import PhotoSet
from workers.training.layered.scenes import Batch, make_batch
from workers.training.layered.train import (
    LAYER_SCALES,
    SAMPLING,
    SOFTNESS_SHARE,
    path_errors,
    soft_error,
    state_of,
)
from workers.training.run import State, add_arguments, device, optimise
from workers.training.train import fast


def distillation_loss(
    student: LayeredDenoiser,
    teacher: LayeredDenoiser,
    guidance: Sampling,
    noise: LayeredNoise,
    batch: Batch,
    draw: torch.Generator,
    *,
    steps: int,
    teacher_steps: int = TEACHER_STEPS,
    own_path: float = OWN_PATH,
    scales: tuple[float, ...] = LAYER_SCALES,
) -> Tensor:
    """Squared error of the student's x0 against the target, measured as in training.

    The batch has one motion for each picture. `teacher` must share its context; `guidance` is how
    it is sampled. All scenes of a batch start at the same noise level. Raises ValueError if
    `steps` does not divide `teacher_steps`.
    """
    if teacher_steps % steps:
        raise ValueError(f"{steps} steps do not divide the teacher's {teacher_steps}")
    place = next(student.parameters()).device
    motion = torch.cat(state_of(batch, scales), 1).to(place)
    picture, tokens = batch.picture.to(place), batch.tokens.to(place)
    energy = batch.energies.to(place) / torch.tensor(scales, device=place) ** 2
    there = batch.has_subject.to(place)
    levels = sigmas_for("log-snr", teacher_steps)
    substeps = teacher_steps // steps
    own = levels[::substeps]
    k = int(torch.randint(steps, (1,), generator=draw))
    along_own_path = torch.rand(1, generator=draw).item() < own_path and k > 0
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
    assert isinstance(student, LayeredDenoiser) and isinstance(teacher, LayeredDenoiser)
    student.train().requires_grad_(True)
    share_context(teacher.unet)
    noise = LayeredNoise(config.network.frames, config.network.grid, place)
    known = frozenset(config.vocabulary)
    tokenise = Tokeniser(config.network.caption_length, config.network.buckets, known)
    photos = None if args.photos is None else PhotoSet.load(args.photos, held_out=False)
    # Neither the teacher's training nor an evaluation uses these scenes.
    series = args.seed + 1

    def loss_of(step: int, draw: torch.Generator) -> Tensor:
        batch = make_batch(series, step, args.batch, 1, tokenise, photos, mislabelled=0.0)
        return distillation_loss(
            student, teacher, guidance, noise, batch, draw, steps=args.student_steps
        )

    return optimise(args, student, config, STUDENT, loss_of)


if __name__ == "__main__":
    distil(parse_args())
