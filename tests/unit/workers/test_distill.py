"""Distillation: the target is exact where it is known, and tiny runs resume and load."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from tests.support.tiny_model import arguments
from workers.pipeline.animation import Animation
from workers.pipeline.attention import share_context
from workers.pipeline.denoiser import MotionDenoiser
from workers.pipeline.loader import STUDENT, Sampling
from workers.pipeline.noise import MotionNoise
from workers.pipeline.sampler import DPMSolver, sigmas_for
from workers.pipeline.text import Tokeniser
from workers.training import distill
from workers.training.train import make_batch, model_config, train

UNGUIDED = Sampling(steps=32, guided=False, order=1)


def parts():
    config = model_config(toy=True).network
    torch.manual_seed(0)
    teacher = MotionDenoiser(config).requires_grad_(False)
    for weight in teacher.unet.conv_out.parameters():  # an untrained output is near zero
        torch.nn.init.normal_(weight, std=0.1)
    student = copy.deepcopy(teacher).requires_grad_(True)
    share_context(teacher.unet)
    tokenise = Tokeniser(config.caption_length, config.buckets)
    return teacher, student, MotionNoise(config.frames, config.grid), make_batch(5, 0, 2, tokenise)


def loss(teacher, student, noise, batch, guidance, seed=0, **options):
    draw = torch.Generator().manual_seed(seed)
    return distill.distillation_loss(student, teacher, guidance, noise, batch, draw, **options)


@pytest.fixture
def full_precision(monkeypatch):
    """Two ways through one network round differently in bf16."""
    monkeypatch.setattr(distill, "fast", lambda place: nullcontext())


@pytest.mark.parametrize("own_path", [0.0, 1.0])
def test_one_substep_without_guidance_leaves_nothing_to_learn(full_precision, own_path):
    teacher, student, noise, batch = parts()
    for seed in range(4):
        same = loss(
            teacher,
            student,
            noise,
            batch,
            UNGUIDED,
            seed,
            steps=4,
            teacher_steps=4,
            own_path=own_path,
        )
        assert same.item() < 1e-7
    # And only then: with more substeps, or with guidance, there is something to learn.
    more = loss(teacher, student, noise, batch, UNGUIDED, steps=4, teacher_steps=16)
    guided = replace(UNGUIDED, guided=True, text_scale=3.0)
    other = loss(teacher, student, noise, batch, guided, steps=4, teacher_steps=4)
    assert min(more.item(), other.item()) > 1e-5


def test_gradients_reach_the_student_alone():
    teacher, student, noise, batch = parts()
    guided = replace(UNGUIDED, guided=True, text_scale=3.0)
    loss(teacher, student, noise, batch, guided, steps=4, teacher_steps=8).backward()
    assert student.unet.conv_in.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.0])
def test_a_linear_gaussian_teacher_is_matched_exactly(spread):
    """Data N(0, s^2): x0(x, sigma) = x s^2 / (s^2 + sigma^2), guided by a factor.

    DDIM then multiplies x by a number at every step, so the target must be x times a number, too,
    and a student that returns it must land on every fourth point of the teacher's path.
    """
    guidance = 1.2

    def denoise(x, sigma):
        return guidance * x * spread**2 / (spread**2 + sigma.item() ** 2)

    levels = sigmas_for("log-snr", 32)
    own = levels[::4]
    x = torch.tensor([1.5, -0.3], dtype=torch.float64) * levels[0]

    def student(x, sigma):
        k = int((own == sigma).nonzero())
        landed = distill.land(denoise, x, levels, 4 * k, 4)
        target = distill.one_step_target(x, landed, own[k], own[k + 1])
        # In closed form: the product of the teacher's four factors, undone for one step.
        factor = 1.0
        for i in range(4 * k, 4 * k + 4):
            r = (levels[i + 1] / levels[i]).item()
            factor *= r + (1 - r) * guidance * spread**2 / (spread**2 + levels[i].item() ** 2)
        ratio = (own[k + 1] / own[k]).item()
        assert torch.allclose(target, x * (factor - ratio) / (1 - ratio), rtol=1e-9)
        return target

    by_teacher = DPMSolver(levels, order=1).sample(denoise, x)
    by_student = DPMSolver(own, order=1).sample(student, x)
    assert torch.allclose(by_teacher, by_student, rtol=1e-9)
    assert by_teacher.abs().max() > 0


def test_the_student_is_sampled_at_the_levels_it_was_distilled_at():
    levels = sigmas_for("log-snr", 32)
    for steps in (1, 2, 4, 8, 16, 32):
        assert torch.equal(sigmas_for("distilled", steps), levels[:: 32 // steps])
    with pytest.raises(ValueError, match="at most its teacher's 32"):
        sigmas_for("distilled", 33)


def test_steps_that_do_not_divide_the_teachers_are_refused():
    with pytest.raises(ValueError, match="7 steps do not divide"):
        loss(*parts(), UNGUIDED, steps=7)


def test_distillation_resumes_exactly_and_its_student_loads(tmp_path):
    train(arguments(tmp_path / "teacher", 1))

    def options(out, steps, *more):
        given = ["--teacher", str(tmp_path / "teacher/model"), "--out", str(tmp_path / out)]
        given += ["--batch", "2", "--steps", str(steps), "--log-every", "1", "--threads", "1"]
        return distill.parse_args([*given, *more])

    whole = distill.distil(options("whole", 3))
    distill.distil(options("parts", 3, "--minutes", "0"))
    parted = distill.distil(options("parts", 3, "--resume"))
    for key, value in whole["ema"].items():
        assert torch.equal(value, parted["ema"][key]), key
    student = Animation.load(tmp_path / "whole/model", network=STUDENT)
    assert (student.sampling.steps, student.sampling.guided) == (4, False)
    again = options("fewer", 1, "--student-steps", "2", "--init", str(tmp_path / "whole/model"))
    distill.distil(again)
    assert Animation.load(tmp_path / "fewer/model", network=STUDENT).sampling.steps == 2
