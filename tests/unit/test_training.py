"""Training at toy size: it learns, resumes exactly, and its evaluation tells good from bad."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from workers.pipeline.animation import Animation
from workers.pipeline.denoiser import MotionDenoiser
from workers.training import evaluate, scenes
from workers.training.train import diffusion_loss, make_batch, model_config, parse_args, train


def arguments(out, steps, *more):
    options = ["--out", str(out), "--toy", "--batch", "4", "--log-every", "1", "--threads", "1"]
    return parse_args([*options, "--steps", str(steps), "--warmup-steps", "4", *more])


@pytest.fixture(autouse=True)
def signals_as_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
    animation = Animation.load(tmp_path / "model")
    picture = np.zeros((40, 60, 3), np.uint8)
    assert len(list(animation.animate(picture, "sway", seed=0, frames=8, steps=1))) == 8
    header = (tmp_path / "training-log.csv").read_text().splitlines()[0]
    assert header == "step,loss,grad_norm,learning_rate,wall_s"


def test_the_loss_on_unseen_scenes_falls(tmp_path):
    unseen = make_batch(99, 0, 16)

    def loss(weights):
        network = MotionDenoiser(model_config(toy=True).network)
        network.load_state_dict(weights)
        with torch.no_grad():
            return diffusion_loss(network, unseen, torch.Generator().manual_seed(1)).item()

    before = train(arguments(tmp_path / "short", 1))["network"]
    after = train(arguments(tmp_path / "long", 25, "--lr", "1e-2"))["network"]
    assert loss(after) < 0.97 * loss(before)


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


def test_an_oracle_has_no_loss_and_silence_has_the_loss_of_the_signal():
    """v = signal * noise - noise level * motion: knowing the motion gives v exactly."""
    batch = make_batch(0, 0, 4)

    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, noisy, time, picture, tokens):
            angle = (time * torch.pi / 2)[:, None, None, None, None]
            noise = (noisy - angle.cos() * batch[0]) / angle.sin()
            return angle.cos() * noise - angle.sin() * batch[0]

    loss = diffusion_loss(Oracle(), batch, torch.Generator().manual_seed(0))
    assert loss.item() < 1e-4


def test_pictures_and_texts_are_dropped_at_the_promised_rates():
    counts = {"both": 0, "text": 0, "all": 0}

    class Counter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, noisy, time, picture, tokens):
            blind = (picture == 0).flatten(1).all(1)
            deaf = (tokens == 0).all(1)
            assert not (blind & ~deaf).any()
            counts["both"] += int(blind.sum())
            counts["text"] += int((deaf & ~blind).sum())
            counts["all"] += len(picture)
            return noisy * self.weight

    one = make_batch(0, 0, 8)
    batch = tuple(part.repeat(50, *[1] * (part.dim() - 1)) for part in one)
    for seed in range(3):
        diffusion_loss(Counter(), batch, torch.Generator().manual_seed(seed))
    assert counts["both"] / counts["all"] == pytest.approx(0.08, abs=0.025)
    assert counts["text"] / counts["all"] == pytest.approx(0.10, abs=0.03)


def test_figures_are_right_where_the_answer_is_known():
    true = scenes.camera_field("pan left", 1.0)
    assert evaluate.compare(true, true) == pytest.approx((1, 1, 0), abs=1e-5)
    cosine, ratio, error = evaluate.compare(-2 * true, true)
    assert (cosine, ratio) == pytest.approx((-1, 2), abs=1e-5)
    # Twice the way in the wrong direction: three times the mean displacement.
    assert error == pytest.approx(3 * np.abs(true[0]).mean() * 256, rel=1e-4)
    cosine, ratio, error = evaluate.compare(true, np.zeros_like(true))
    assert np.isnan(cosine) and np.isnan(ratio) and error > 0


def test_an_evaluation_ends_with_finite_figures(tmp_path):
    train(arguments(tmp_path, 1))
    animation = Animation.load(tmp_path / "model", dtype="fp32")
    animation.steps = 2
    result = evaluate.evaluate(animation, 6, 1.0, 1.0, 16)
    assert -1 <= result["cosine"] <= 1
    assert result["scenes"] == 6
    assert result["magnitude_ratio"] > 0
