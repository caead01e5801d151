"""Training a tiny model: it learns, resumes exactly, and its evaluation tells good from bad."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tests.support.tiny_model import arguments
from workers.pipeline.animation import Animation
from workers.pipeline.denoiser import MotionDenoiser
from workers.pipeline.loader import TEACHER
from workers.pipeline.noise import MotionNoise
from workers.pipeline.text import Tokeniser
from workers.training import scenes
from workers.training.train import (
    diffusion_loss,
    make_batch,
    model_config,
    motion_error,
    train,
    without_camera,
)


def test_a_resumed_run_takes_the_steps_of_an_uninterrupted_one(tmp_path):
    whole = train(arguments(tmp_path / "whole", 6))
    train(arguments(tmp_path / "parts", 6, "--minutes", "0"))  # one step, then saved
    parts = train(arguments(tmp_path / "parts", 6, "--resume"))
    assert [row[:4] for row in parts["log"]] == [row[:4] for row in whole["log"]]
    for key, value in whole["network"].items():
        assert torch.equal(value, parts["network"][key]), key
    for key, value in whole["ema"].items():
        assert torch.equal(value, parts["ema"][key]), key


def test_the_saved_model_can_animate(tmp_path):
    train(arguments(tmp_path, 1))
    animation = Animation.load(tmp_path / "model", network=TEACHER)
    picture = np.zeros((40, 60, 3), np.uint8)
    assert len(list(animation.animate(picture, "sway", seed=0, frames=8, steps=1))) == 8
    header = (tmp_path / "training-log.csv").read_text().splitlines()[0]
    assert header == "step,loss,grad_norm,learning_rate,wall_s"


def test_a_run_can_start_from_a_saved_teacher(tmp_path):
    first = train(arguments(tmp_path / "first", 2))
    more = ["--init", str(tmp_path / "first/model"), "--lr", "0"]
    second = train(arguments(tmp_path / "second", 1, *more))
    for key, value in first["ema"].items():
        assert torch.equal(value.bfloat16().float(), second["network"][key]), key


def tiny_parts():
    config = model_config(toy=True).network
    return (
        MotionNoise(config.frames, config.grid),
        Tokeniser(config.caption_length, config.buckets),
    )


def test_the_loss_on_unseen_scenes_falls(tmp_path):
    noise, tokenise = tiny_parts()
    unseen = make_batch(99, 0, 16, tokenise)

    def loss(weights):
        network = MotionDenoiser(model_config(toy=True).network)
        network.load_state_dict(weights)
        with torch.no_grad():
            draw = torch.Generator().manual_seed(1)
            return diffusion_loss(network, noise, unseen, draw).item()

    before = train(arguments(tmp_path / "short", 1))["network"]
    after = train(arguments(tmp_path / "long", 25, "--lr", "1e-2"))["network"]
    assert loss(after) < 0.9 * loss(before)


def test_sigterm_saves_before_it_ends(tmp_path):
    command = [sys.executable, "-m", "workers.training.train", "--out", str(tmp_path), "--toy"]
    process = subprocess.Popen(
        [*command, "--batch", "2", "--steps", "100000", "--log-every", "1", "--threads", "1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if line.startswith("step"):
                break
        os.kill(process.pid, signal.SIGTERM)
        process.stdout.read()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] >= 1
    assert time.time() - (tmp_path / "state.pt").stat().st_mtime < 60


def test_an_oracle_has_no_loss():
    """v = signal * noise - noise level * motion: knowing the motion gives v exactly."""
    noise, tokenise = tiny_parts()
    batch = make_batch(0, 0, 4, tokenise)

    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, noisy, time, picture, tokens):
            angle = (time * torch.pi / 2)[:, None, None, None, None]
            epsilon = (noisy - angle.cos() * batch[0]) / angle.sin()
            return angle.cos() * epsilon - angle.sin() * batch[0]

    loss = diffusion_loss(Oracle(), noise, batch, torch.Generator().manual_seed(0))
    assert loss.item() < 1e-4


def test_pictures_and_texts_are_dropped_at_the_configured_rates():
    counts = {"both": 0, "text": 0, "all": 0}

    class Counter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, noisy, time, picture, tokens):
            blind = (picture == 0).flatten(1).all(1)
            deaf = (tokens == 0).flatten(1).all(1)
            assert not (blind & ~deaf).any()
            counts["both"] += int(blind.sum())
            counts["text"] += int((deaf & ~blind).sum())
            counts["all"] += len(picture)
            return noisy * self.weight

    noise, tokenise = tiny_parts()
    one = make_batch(0, 0, 8, tokenise)
    batch = tuple(part.repeat(50, *[1] * (part.dim() - 1)) for part in one)
    for seed in range(3):
        diffusion_loss(Counter(), noise, batch, torch.Generator().manual_seed(seed))
    assert counts["both"] / counts["all"] == pytest.approx(0.06, abs=0.02)
    assert counts["text"] / counts["all"] == pytest.approx(0.10, abs=0.03)


def test_noise_has_unit_variance_and_the_documented_spectrum():
    noise = MotionNoise(8, 16)
    x = noise.draw(400, torch.Generator().manual_seed(0))
    assert x.square().mean().item() == pytest.approx(1, rel=0.1)
    white = noise.whiten(x)
    assert white.square().mean((0, 1)).flatten().sub(1).abs().max() < 0.35
    assert noise.strength[0, 0, 0] > 5 * noise.strength[0, 0, 4] > 5 * noise.strength[0, 8, 8]
    again = noise.draw(400, torch.Generator().manual_seed(0))
    assert torch.equal(x, again)


def test_removing_the_camera_leaves_the_objects_motion():
    for name in ("pan left", "tilt up", "zoom in", "rotate left", "handheld"):
        field = torch.from_numpy(scenes.camera_field(name))[None].float()
        assert without_camera(field).abs().max() < 1e-5 < field.abs().max()
    bump = torch.zeros(1, 2, 8, 16, 16)
    bump[..., 6:9, 4:7] = 1
    left = without_camera(bump)
    assert left.square().sum() > 0.8 * bump.square().sum()
    assert torch.allclose(without_camera(left), left, atol=1e-5)


def test_an_object_that_moves_half_as_far_costs_more_with_a_camera_than_its_size_suggests():
    noise, _ = tiny_parts()
    camera = torch.from_numpy(scenes.camera_field("pan left"))[None].float() / 0.067
    thing = torch.zeros_like(camera)
    thing[..., 6:9, 4:7] = 0.7
    motion = camera + thing
    by_object = motion_error(noise, thing / 2, motion).item()
    by_camera = motion_error(noise, camera / 2, motion).item()
    assert by_object > 0.1 * by_camera
    assert thing.square().mean() < 0.02 * camera.square().mean()
