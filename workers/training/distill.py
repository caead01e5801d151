"""Distil guidance and steps at once: one pass of the student replaces many of the teacher's.

    python -m workers.training.distill --teacher runs/motion/model --out runs/student
    python -m workers.training.distill --teacher runs/motion/model --out runs/student --resume

The student starts as a copy of the teacher and is sampled with DDIM at every (32 / steps)-th of the
teacher's 32 noise levels. From such a level the teacher takes its own DDIM steps, with full
guidance, to the student's next level. The student's target is the x0 with which one DDIM step
arrives there, too (Meng et al. 2022, arXiv:2210.03142, both stages in one; Salimans & Ho 2022,
arXiv:2202.00512, for the inverted step). With some probability the starting point lies on the
student's own path instead of on noised data, so that it learns to correct its own errors ("backward
distillation", Kohler et al. 2024, arXiv:2405.05224).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from workers.pipeline.animation import pick_dtype
from workers.pipeline.attention import share_context
from workers.pipeline.denoiser import MotionDenoiser, OnePass
from workers.pipeline.guidance import ClipDenoiser
from workers.pipeline.loader import STUDENT, TEACHER, Sampling, load_config, load_network
from workers.pipeline.noise import MotionNoise
from workers.pipeline.sampler import TEACHER_STEPS, DPMSolver, sigmas_for
from workers.pipeline.text import Tokeniser
from workers.training.run import State, add_arguments, device, optimise
from workers.training.train import SAMPLING, fast, make_batch, motion_error

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


def distillation_loss(
    student: MotionDenoiser,
    teacher: MotionDenoiser,
    guidance: Sampling,
    noise: MotionNoise,
    batch: tuple[Tensor, Tensor, Tensor],
    draw: torch.Generator,
    *,
    steps: int,
    teacher_steps: int = TEACHER_STEPS,
    own_path: float = OWN_PATH,
) -> Tensor:
    """Squared error of the student's x0 against the target, measured as in training.

    `teacher` must share its context; `guidance` is how it is sampled. All scenes of a batch start
    at the same noise level.

    Raises ValueError if `steps` does not divide `teacher_steps`.
    """
    place = next(student.parameters()).device
    motion, picture, tokens = (x.to(place) for x in batch)
    if teacher_steps % steps:
        raise ValueError(f"{steps} steps do not divide the teacher's {teacher_steps}")
    levels = sigmas_for("log-snr", teacher_steps)
    own = levels[:: teacher_steps // steps]
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
            run = OnePass(teacher.unet, repeat=False)
            guided = ClipDenoiser(teacher, picture, tokens, guidance, run)
            landed = land(guided, x, levels, k * (teacher_steps // steps), teacher_steps // steps)
            target = one_step_target(x, landed, own[k], own[k + 1])
        v, scaled, signal, share = ClipDenoiser(student, picture, tokens, plain).velocity(x, own[k])
    v_target = (scaled * signal - target) / share
    # As in training: the error of x0.
    return motion_error(noise, share * (v - v_target), motion).mean()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Distil the student of motion-small.")
    add_arguments(parser, steps=800, batch=8, lr=2e-4)
    parser.set_defaults(ema=0.99, warmup_steps=20)
    add = parser.add_argument
    add("--teacher", type=Path, required=True, help="a model directory")
    add("--student-steps", type=int, default=8, help="steps to train the student for")
    add("--init", type=Path, help="start from this model's student; default: from the teacher")
    add("--picture-scale", type=float, help="guidance of the teacher; default: its own")
    add("--text-scale", type=float)
    add("--rescale", type=float)
    return parser.parse_args(argv)


def distil(args: argparse.Namespace) -> State:
    """Distil. Returns the last saved state. Raises CheckpointError."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = load_config(args.teacher)
    given = {
        name: getattr(args, name)
        for name in ("picture_scale", "text_scale", "rescale")
        if getattr(args, name) is not None
    }
    guidance = replace(config.sampling[TEACHER], **given)
    # Serving half of the trained steps turned out better; the model card has the table.
    served = SAMPLING[STUDENT]
    plain = replace(served, steps=min(served.steps, args.student_steps))
    config = replace(config, sampling={TEACHER: guidance, STUDENT: plain})
    place = device()
    start = (args.init, STUDENT) if args.init else (args.teacher, TEACHER)
    student = load_network(*start, config, torch.float32, place.type)
    student.train().requires_grad_(True)
    teacher = load_network(
        args.teacher, TEACHER, config, pick_dtype("auto", place.type), place.type
    )
    share_context(teacher.unet)
    noise = MotionNoise(config.network.frames, config.network.grid, place)
    tokenise = Tokeniser(config.network.caption_length, config.network.buckets)
    # Neither the teacher's training nor an evaluation uses these scenes.
    series = args.seed + 1

    def loss_of(step: int, draw: torch.Generator) -> Tensor:
        batch = make_batch(series, step, args.batch, tokenise, mislabelled=0.0)
        return distillation_loss(
            student, teacher, guidance, noise, batch, draw, steps=args.student_steps
        )

    return optimise(args, student, config, STUDENT, loss_of)


if __name__ == "__main__":
    distil(parse_args())
