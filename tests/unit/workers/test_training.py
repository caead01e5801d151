"""Training on layers: no loss for an oracle, unbiased strengths, and exact resumption."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from workers.pipeline.affine import to_fields
from workers.pipeline.layered_denoiser import LayeredDenoiser
from workers.pipeline.loader import TEACHER, Sampling, load_config, load_network
from workers.pipeline.noise import LayeredNoise
from workers.pipeline.text import Tokeniser
from workers.training import probe, train
from workers.training.run import learning_rate, progress
from workers.training.sample import sample_motions
from workers.training.scenes import make_batch
from workers.training.train import (
    LAYER_SCALES,
    layered_loss,
    network_config,
    parse_args,
    state_of,
)

TOY = network_config(toy=True)


def arguments(out, steps, *more):
    options = ["--out", str(out), "--toy", "--batch", "2", "--motions", "2", "--threads", "1"]
    options += ["--log-every", "1", "--warmup-steps", "4", "--steps", str(steps)]
    return parse_args([*options, *more])


def batch(pictures=4, motions=2, seed=0, mislabelled=0.0):
    tokenise = Tokeniser(TOY.caption_length, TOY.buckets)
    return make_batch(seed, 0, pictures, motions, tokenise, None, mislabelled=mislabelled)


def test_a_resumed_run_takes_the_steps_of_an_uninterrupted_one(tmp_path):
    whole = train.train(arguments(tmp_path / "whole", 4))
    train.train(arguments(tmp_path / "parts", 4, "--minutes", "0"))  # one step, then saved
    parts = train.train(arguments(tmp_path / "parts", 4, "--resume"))
    assert [row[:4] for row in parts["log"]] == [row[:4] for row in whole["log"]]
    for name in ("network", "ema"):
        for key, value in whole[name].items():
            assert torch.equal(value, parts[name][key]), key
    config = load_config(tmp_path / "whole/model")
    assert config.network == TOY and config.layer_scales == LAYER_SCALES
    load_network(tmp_path / "whole/model", TEACHER, config, torch.float32, "cpu")


def test_a_run_can_end_by_the_clock_with_the_rate_at_zero():
    args = arguments("nowhere", 1000, "--finish-minutes", "10", "--lr", "1")
    done = [progress(step, seconds, args) for step, seconds in ((500, 60), (10, 300), (500, 600))]
    assert done == [0.5, 0.5, 1]
    rates = [learning_rate(10, share, args) for share in (0.5, 0.85, 1)]
    assert rates == pytest.approx([1, 0.5, 0])


def test_sigterm_saves_before_it_ends(tmp_path):
    command = [sys.executable, "-m", "workers.training.train", "--out", str(tmp_path), "--toy"]
    more = ["--batch", "2", "--motions", "2", "--steps", "100000", "--log-every", "1"]
    process = subprocess.Popen(
        [*command, *more, "--threads", "1", "--processes", "1"], stdout=subprocess.PIPE, text=True
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


def test_a_run_can_start_from_a_saved_teacher(tmp_path):
    first = train.train(arguments(tmp_path / "first", 2))
    more = ["--init", str(tmp_path / "first/model"), "--lr", "0"]
    second = train.train(arguments(tmp_path / "second", 1, *more))
    for key, value in first["ema"].items():
        assert torch.equal(value.bfloat16().float(), second["network"][key]), key


def test_the_loss_falls(tmp_path):
    noise, unseen = LayeredNoise(TOY.frames, TOY.grid), batch(8, 4, seed=9)

    def loss(weights):
        network = LayeredDenoiser(TOY)
        network.load_state_dict(weights)
        with torch.no_grad():
            return layered_loss(network, noise, unseen, torch.Generator().manual_seed(1))[0].item()

    options = ("--lr", "5e-3", "--motions", "6", "--soft-every", "4")
    before = train.train(arguments(tmp_path / "short", 1, *options))["network"]
    after = train.train(arguments(tmp_path / "long", 25, *options))["network"]
    assert loss(after) < 0.9 * loss(before)


def test_states_have_the_units_of_the_network():
    given = batch()
    affine, soft = state_of(given, LAYER_SCALES)
    assert affine.shape == (8, 4, 8, 16, 16) and soft.shape == (4, 4, 8, 16, 16)
    camera = to_fields(given.camera, 16) / LAYER_SCALES[0]
    assert torch.allclose(affine[:, :2], camera, atol=1e-6)
    assert torch.allclose(soft[:, 2:], given.soft[:, 1] / LAYER_SCALES[3], atol=1e-6)


def test_scales_give_the_data_about_unit_variance():
    affine, soft = state_of(batch(32, 4), LAYER_SCALES)
    for part in (affine[:, :2], affine[:, 2:], soft[:, :2], soft[:, 2:]):
        assert 0.25 < part.square().mean().sqrt() < 2  # subjects are small and seldom soft


class Oracle(torch.nn.Module):
    """Says v of everything, knowing the truth; `share` of the camera's."""

    def __init__(self, given, share=1.0):
        super().__init__()
        self.affine, self.soft = state_of(given, LAYER_SCALES)
        self.affine[:, :2] *= share
        self.masks = given.masks
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.unet = self.of_soft

    def static_features(self, picture):
        return torch.zeros(len(picture), 11, 16, 16)

    def text(self, tokens):
        return torch.zeros(len(tokens), 1, 16), torch.zeros(len(tokens), 16)

    def softness(self, static, pooled):
        return (self.masks * 2 - 1) * 50

    @staticmethod
    def v(noisy, x0, angle):
        angle = angle[:, None, None, None, None]
        epsilon = (noisy - angle.cos() * x0) / angle.sin()
        return angle.cos() * epsilon - angle.sin() * x0

    def paths(self, noisy, time, static, context, pooled):
        return self.v(noisy, self.affine, time * torch.pi / 2)

    def of_soft(self, sample, time, *_, **__):
        return (self.v(sample[:, 4:8], self.soft, time / 1000 * torch.pi / 2),)


def test_an_oracle_has_no_loss_but_where_areas_are_half_soft():
    given = batch()
    noise = LayeredNoise(TOY.frames, TOY.grid)
    _, parts = layered_loss(Oracle(given), noise, given, torch.Generator().manual_seed(0))
    assert max(parts["camera"], parts["body"], parts["soft"]) < 1e-4
    _, weak = layered_loss(Oracle(given, 0.5), noise, given, torch.Generator().manual_seed(0))
    assert weak["camera"] > 0.01


def test_the_best_prediction_is_not_weaker_than_the_motion():
    """Captions that are sometimes wrong make a prediction weaker by as often as they are, and no
    more: weights that follow the truth would shrink it by far more."""
    given = batch(20, 4)
    wrong = torch.zeros(len(given.camera), dtype=torch.bool)
    wrong[::10] = True
    given.camera[wrong] = 0  # one in ten stands still although its caption moves the camera
    noise = LayeredNoise(TOY.frames, TOY.grid)
    losses = {}
    for share in (0.5, 0.8, 0.9, 1.0):
        oracle = Oracle(batch(20, 4), share)
        draw = torch.Generator().manual_seed(0)
        losses[share] = layered_loss(oracle, noise, given, draw)[1]["camera"]
    assert min(losses, key=losses.get) == 0.9


def test_a_probe_writes_a_row_of_figures(tmp_path):
    torch.manual_seed(0)
    network = LayeredDenoiser(TOY)
    probing = probe.Probe(tmp_path, train.model_config(toy=True), None, count=3)
    probing.note({name: torch.tensor(n) for n, name in enumerate(probe.PARTS)})
    probing(200, network.state_dict())
    with (tmp_path / "probes.csv").open() as file:
        [row] = csv.DictReader(file)
    assert list(row) == probe.COLUMNS
    assert (row["step"], float(row["body"])) == ("200", 1.0)
    assert 1 < float(row["error_px"]) < 100


def test_the_truth_has_no_error_in_a_probe():
    scenes = probe.unseen_scenes(None, 8)
    truths = [
        next(m for free, m in probe.possible_motions(scene) if free == scene.free)
        for scene in scenes
    ]
    errors, strengths = probe.compare(truths, scenes)
    assert errors.max() < 1e-3
    moving = [scene.kind.camera != "still" for scene in scenes]
    assert strengths[moving] == pytest.approx(1, abs=1e-4)


def test_samples_follow_from_their_seed():
    torch.manual_seed(0)
    network = LayeredDenoiser(TOY).eval()
    noise = LayeredNoise(TOY.frames, TOY.grid)
    tokenise = Tokeniser(TOY.caption_length, TOY.buckets)
    scenes = probe.unseen_scenes(None, 3)

    def motions(seed, guided):
        sampling = Sampling(2, guided, 1, picture_scale=1.5, text_scale=2.0, rescale=0.5)
        starts = noise.draw(3, torch.Generator().manual_seed(seed))
        given = (network, starts, tokenise, LAYER_SCALES, scenes, sampling)
        return torch.stack([motion.camera for motion in sample_motions(*given)])

    for guided in (False, True):
        assert torch.equal(motions(1, guided), motions(1, guided))
        assert not torch.equal(motions(1, guided), motions(2, guided))
