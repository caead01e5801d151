"""Long edges do not ripple where the network only guesses; water does, wherever it is seen."""

import numpy as np
import pytest
import torch

from tests.support.layered import textured
from workers.pipeline.animation import Animation
from workers.pipeline.asked import Asked
from workers.pipeline.guidance import ClipDenoiser
from workers.pipeline.layers import BACKGROUND
from workers.pipeline.rippling import (
    MOST_LINES,
    edges_below,
    only_guessed,
    stiff_below,
    without_guess,
)
from workers.training.captions import Motion
from workers.training.sample import pictures_of
from workers.training.scenes import draw_scene

WAVES = Asked.read("strongly background ripple")


def lower_half():
    rows = torch.tensor([0.01] * 6 + [0.05, 0.35, 0.65, 0.9] + [0.94] * 6)
    return rows[:, None].expand(16, 16).clone()


def bricks(side=256):
    y, x = np.mgrid[:side, :side]
    joints = (y % 24 < 3) | ((x + 20 * (y // 24 % 2)) % 40 < 3)
    return np.repeat(np.where(joints, 180, 80)[..., None], 3, 2).astype(np.uint8)


def test_the_lower_half_is_a_guess_and_a_shore_is_not():
    assert only_guessed(lower_half())
    lake, shore = lower_half(), lower_half()
    lake[4:6] = 0.9  # water above the middle
    shore[10:, :6] = 0.2  # land beside it
    assert not only_guessed(lake) and not only_guessed(shore)


@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_a_wall_is_stiff_at_any_size_and_texture_is_not(scale):
    wall = bricks()
    wall = np.kron(wall, np.ones((3, 3, 1), np.uint8)) if scale == 3 else wall[:: int(1 / scale)]
    assert stiff_below(wall, None)
    noise = np.random.default_rng(0).integers(0, 256, wall.shape, dtype=np.uint8)
    assert not stiff_below(noise, None)
    assert not stiff_below(textured(*wall.shape[:2]), None)


def test_waves_are_long_edges_and_yet_not_stiff():
    y, x = np.mgrid[:256, :256]
    sea = 120 + 60 * np.sin(y / 3 + 2 * np.sin(x / 60))
    sea = np.repeat(sea[..., None], 3, 2).astype(np.uint8)
    assert edges_below(sea, None)[0] > 2 * MOST_LINES
    assert not stiff_below(sea, None)


def test_only_the_background_of_the_lower_half_counts():
    ground = np.full((256, 256, 3), 90, np.uint8)
    upper, covered = ground.copy(), ground.copy()
    upper[:120], covered[140:, 60:200] = bricks()[:120], bricks()[140:, 60:200]
    matte = np.zeros((64, 64), np.float32)
    matte[32:, 12:53] = 1
    assert not stiff_below(upper, None)
    assert stiff_below(covered, None)
    assert not stiff_below(covered, matte)
    assert not stiff_below(bricks(), np.ones((64, 64), np.float32))


def test_only_a_guessed_ripple_of_the_background_is_taken_away():
    guessed = torch.stack([lower_half(), lower_half()])
    taken = without_guess(guessed, WAVES)
    assert not taken[0].any() and torch.equal(taken[1], guessed[1])
    for words in ("subject ripple", "background sway", "pan left"):
        assert torch.equal(without_guess(guessed, Asked.read(words)), guessed)
    assert torch.equal(without_guess(guessed, None), guessed), "free words are not read"
    water = guessed.clone()
    water[0, 4:6] = 0.9
    assert torch.equal(without_guess(water, WAVES), water)


@pytest.fixture(scope="module")
def animation():
    return Animation.load(matte="none")


def test_waves_over_a_wall_move_the_camera_and_waves_over_texture_ripple(animation):
    wall = animation.denoise(bricks(), None, "strongly background ripple", 0)
    assert not wall.soft.any() and wall.camera.any()
    texture = animation.denoise(textured(256, 256), None, "strongly background ripple", 0)
    assert texture.soft[BACKGROUND].any() and not texture.camera.any()
    both = animation.denoise(bricks(), None, "ripple, pan left", 0)
    assert not both.soft.any() and both.camera[..., 0, 2].abs().max() > 0.1


@torch.inference_mode()
def test_drawn_water_ripples_as_before(animation):
    kept = seen = 0
    for number in range(80):
        kind = Motion("still", "ripple", "normal", "background")
        scene = draw_scene(4, number, None, kind=kind)
        if scene.picture.water.mean() < 0.2:
            continue
        seen += 1
        colours = scene.picture.colours.transpose(1, 2, 0)
        image = (255 * colours).round().clip(0, 255).astype(np.uint8)
        stiff = stiff_below(image, scene.picture.matte if scene.stage.has_subject else None)
        tokens = animation.tokenise("background ripple")[None]
        network = animation.network
        given = ClipDenoiser(network, pictures_of([scene]), tokens, animation.sampling)
        [found] = given.softness()
        kept += not stiff or torch.equal(without_guess(found, WAVES), found)
    assert seen > 10
    assert kept == seen
