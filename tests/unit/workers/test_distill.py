"""Distillation in layers: the target is exact where it is known, and tiny runs resume and load."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from workers.pipeline.attention import share_context
from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.loader import STUDENT, Sampling, load_config, load_network
from workers.pipeline.noise import LayeredNoise
from workers.pipeline.sampler import DPMSolver, sigmas_for
from workers.pipeline.text import Tokeniser
from workers.training import distill
from workers.training.scenes import make_batch
from workers.training.train import network_config, parse_args, train

UNGUIDED = Sampling(steps=32, guided=False, order=1)
TOY = network_config(toy=True)


def parts():
    torch.manual_seed(0)
    teacher = LayeredDenoiser(TOY).requires_grad_(False)
    for layer in (teacher.unet.conv_out, teacher.paths.out):  # an untrained output is near zero
        torch.nn.init.normal_(layer.weight, std=0.1)
    student = copy.deepcopy(teacher).requires_grad_(True)
    share_context(teacher.unet)
    tokenise = Tokeniser(TOY.caption_length, TOY.buckets)
    batch = make_batch(5, 0, 2, 1, tokenise, None)
    return student, teacher, batch


def loss(student, teacher, batch, guidance, seed=0, **options):
    noise = LayeredNoise(TOY.frames, TOY.grid)
    draw = torch.Generator().manual_seed(seed)
    return distill.distillation_loss(student, teacher, guidance, noise, batch, draw, **options)


@pytest.mark.parametrize("own_path", [0.0, 1.0])
def test_one_substep_without_guidance_leaves_only_the_gate_to_learn(monkeypatch, own_path):
    # Two ways through one network round differently in bf16.
    monkeypatch.setattr(distill, "fast", lambda place: nullcontext())
    # The gate's cross-entropy with itself is its entropy, which is not zero.
    monkeypatch.setattr(distill, "SOFTNESS_SHARE", 0.0)
    student, teacher, batch = parts()
    for seed in range(3):
        begin = distill.beginning(torch.Generator().manual_seed(seed), 4, own_path)
        options = {"begin": begin, "steps": 4, "teacher_steps": 4}
        assert loss(student, teacher, batch, UNGUIDED, seed, **options).item() < 1e-7
    guided = replace(UNGUIDED, guided=True, text_scale=3.0)
    assert loss(student, teacher, batch, guided, **options).item() > 1e-5
    with pytest.raises(ValueError, match="7 steps do not divide"):
        loss(student, teacher, batch, UNGUIDED, begin=(0, False), steps=7)


def test_gradients_reach_the_student_alone():
    student, teacher, batch = parts()
    guided = replace(UNGUIDED, guided=True, text_scale=3.0)
    loss(student, teacher, batch, guided, begin=(1, False), steps=4, teacher_steps=8).backward()
    for layer in (student.unet.conv_in, student.paths.moment):
        assert layer.weight.grad.abs().max() > 0
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


def test_distillation_resumes_exactly_and_its_student_loads(tmp_path):
    few = ["--batch", "2", "--steps", "2", "--log-every", "1", "--threads", "1"]
    teacher = ["--out", str(tmp_path / "teacher"), "--toy", "--motions", "2", *few]
    train(parse_args([*teacher, "--steps", "1"]))

    def options(out, *more):
        given = ["--teacher", str(tmp_path / "teacher/model"), "--out", str(tmp_path / out)]
        given += ["--student-steps", "8"]
        return distill.parse_args([*given, *few, *more])

    whole = distill.distil(options("whole"))
    distill.distil(options("parts", "--minutes", "0"))
    parted = distill.distil(options("parts", "--resume"))
    for key, value in whole["ema"].items():
        assert torch.equal(value, parted["ema"][key]), key
    config = load_config(tmp_path / "whole/model")
    assert config.sampling[STUDENT].steps == 8 and not config.sampling[STUDENT].guided
    load_network(tmp_path / "whole/model", STUDENT, config, torch.float32, "cpu")
