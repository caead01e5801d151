"""Motions that a sheet can take: no folds at any strength, the camera untouched."""

import numpy as np
import pytest
import torch
from skimage import data

from workers.pipeline.animation import Animation
from workers.pipeline.borders import Sides, flat_sides, keep_inside
from workers.pipeline.grid import cubic_weights, extent, grid_weights, place
from workers.pipeline.guard import LEAST_AREA, affine, split, tame
from workers.pipeline.motion import Warp, path_of, zoom_of
from workers.training.evaluate import test_scenes as scenes_with_truth
from workers.training.scenes import draw_scene
from workers.training.scenes import motion_field as true_motion

SCENES = scenes_with_truth(60)
GROWING = torch.arange(1, 9)[:, None, None] / 8


def least_area(path, size):
    """The least determinant of frames' Jacobians, by differences of a fine grid of positions."""
    share = torch.linspace(0, 1, 19)
    moves = torch.einsum(
        "fk,ckij->fcij", cubic_weights(share * (path.shape[1] - 1), path.shape[1]), path
    )
    ex, ey = extent(*size)
    line = torch.linspace(-1, 1, 81)
    wy, wx = grid_weights(line * ey, 16), grid_weights(line * ex, 16)
    u = wy @ moves @ wx.T
    at = u + torch.stack(torch.meshgrid(line * ex, line * ey, indexing="xy"))
    d_y, d_x = (at.diff(dim=dim)[..., :80, :80] * 40 / e for dim, e in ((2, ey), (3, ex)))
    return (d_x[:, 0] * d_y[:, 1] - d_x[:, 1] * d_y[:, 0]).amin().item()


@pytest.fixture(scope="module")
def shipped():
    return Animation.load()


@pytest.mark.parametrize("prompt", ["drifts left fast", "spins fast", "sways strongly"])
def test_no_clip_of_the_shipped_model_folds(shipped, prompt):
    raw = []
    for picture in (data.astronaut()[::4, ::4], data.rocket()[::4, ::4]):
        size = picture.shape[:2]
        motion = shipped.denoise(picture, prompt, 0, 4)
        for strength in (1.0, 2.0):
            raw.append(least_area(motion * strength, size))
            assert least_area(path_of(motion * strength, *size), size) > 0.05
    assert min(raw) < -0.5, "without the guard they fold"


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (16, 128), (128, 16)])
def test_true_motions_of_every_kind_do_not_fold_at_twice_their_strength(size):
    worst = 1.0
    for scene in [SCENES[n] for n in range(size[0] % 3, len(SCENES), 3)]:
        motion = torch.from_numpy(scene.motion) * 2
        worst = min(worst, least_area(path_of(motion, *size), size))
    assert worst > 0.03


def test_a_motion_of_pure_noise_does_not_fold_either():
    motion = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    assert least_area(path_of(motion, 64, 64), (64, 64)) > 0.01


@pytest.mark.parametrize(
    "offset", [(0.0, 0.0), (0.3, 0.0), (-0.2, 0.25)], ids=["none", "pan", "both"]
)
@pytest.mark.parametrize(
    "linear",
    [((-0.5, 0), (0, -0.5)), ((0.4, 0), (0, 0.4)), ((0, 0.3), (-0.3, 0))],
    ids=["zoom in", "zoom out", "rotation"],
)
def test_what_a_camera_does_is_left_as_it_is(offset, linear):
    end = affine(torch.tensor(offset)[:, None], torch.tensor(linear)[:, None], 16)
    path = end * GROWING
    assert torch.allclose(tame(path, 60, 80), path, atol=1e-5)


def test_a_body_that_folds_is_held_back_and_the_camera_is_not():
    x, y = place(16)
    body = torch.exp(-(x**2 + y**2) / 0.08)
    pan = torch.stack([torch.full_like(x, 0.2), torch.zeros_like(x)])
    drift = torch.stack([0.6 * body, torch.zeros_like(body)])
    path = (pan + drift)[:, None] * GROWING
    offset, _, rest = split(tame(path, 64, 64), 64, 64)
    assert offset[0, -1].item() == pytest.approx(0.2, abs=0.01)
    assert 0.05 < rest[0, -1].max() < 0.4
    assert least_area(path, (64, 64)) < 0
    assert least_area(tame(path, 64, 64), (64, 64)) > LEAST_AREA * 0.8


@pytest.mark.parametrize("size", [(64, 512), (512, 64)])
def test_a_panorama_moves_along_its_short_side_no_further_than_a_photo(size):
    """In shares of the side it runs along."""
    narrow = min(extent(*size))
    along = int(size[0] < size[1])  # the axis of the short side
    motion = torch.zeros(2, 8, 16, 16)
    motion[along] = 0.15 * GROWING
    share = tame(motion, *size)[along, -1].mean().item() / narrow
    assert share == pytest.approx(0.15 / (9 / 16), rel=0.01), "as in a picture of 16:9"
    # A pan along the long side is not held back.
    motion = motion[[1, 0]]
    assert torch.allclose(tame(motion, *size)[1 - along], motion[1 - along], atol=1e-5)
    # A rotation moves the ends of the long side along the short one.
    turn = torch.stack([-place(16)[1], place(16)[0]])[:, None] * 0.14 * GROWING
    assert tame(turn, *size)[along].abs().max() < 0.3 * narrow


def logo():
    picture = np.full((120, 160, 3), 255, np.uint8)
    picture[30:90, 10:150] = (200, 30, 40)
    noise = np.random.default_rng(0).integers(-3, 3, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_a_logo_on_white_is_not_zoomed_to_hide_its_white_border():
    picture = logo()
    motion = torch.zeros(2, 8, 16, 16)
    motion[0] = -0.1 * GROWING
    flat = flat_sides(picture)
    assert flat == Sides(True, True, True, True)
    assert zoom_of(path_of(motion, 120, 160, flat), 120, 160) == pytest.approx(1, abs=0.002)
    assert zoom_of(path_of(motion, 120, 160), 120, 160) > 1.08
    last = list(Warp(picture, motion, 8))[-1].astype(int)
    assert last[:, :12].min() > 245, "what comes into view is white, no mirrored logo"
    red = np.abs(last - (200, 30, 40)).max(2) < 20
    assert red.sum() == pytest.approx(60 * 140, rel=0.04), "the logo is whole"


def test_only_the_sides_that_need_it_are_hidden():
    """A photo with a flat sky: what comes in from above is sky, below it is not."""
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    picture[:30] = (120, 160, 220)
    flat = flat_sides(picture)
    assert flat == Sides(top=True)
    for sign, hidden in ((-1, False), (1, True)):
        motion = torch.zeros(2, 8, 16, 16)
        motion[1] = sign * 0.15 * GROWING
        assert (zoom_of(path_of(motion, 90, 120, flat), 90, 120) > 1.05) == hidden


def test_nothing_is_zoomed_that_shows_no_border():
    x, y = place(16)
    bulge = torch.exp(-(x**2 + y**2) / 0.1)
    path = torch.stack([0.1 * bulge, 0 * bulge])[:, None] * GROWING
    path = torch.cat([torch.zeros_like(path[:, :1]), path], 1)
    assert torch.allclose(keep_inside(path, 64, 64), path, atol=2e-3)


def test_the_camera_is_found_behind_a_moving_body():
    scene = draw_scene(3, 1)
    pan = torch.from_numpy(true_motion("pan left", "still", [], None, 1.0))
    both = torch.from_numpy(true_motion("pan left", "spin", scene.bodies, None, 1.0))
    for path in (pan, both):
        offset, _, _ = split(path, 64, 64)
        assert offset[0, -1].item() == pytest.approx(-0.17, abs=0.03)
