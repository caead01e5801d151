"""Layered motion: limited to what a picture bears, and to what was asked."""

import numpy as np
import pytest
import torch
from skimage import data

from tests.support.layered import TIMES, affine_clip, disc
from workers.pipeline.animation import Animation
from workers.pipeline.asked import CAMERA, OBJECT, PARALLAX, Asked
from workers.pipeline.asked_only import camera_only, carried_body, rooted, soft_layers
from workers.pipeline.grid import extent, grid_weights, place
from workers.pipeline.layers import LEAST_AREA, LayeredMotion, maps, zoom_of
from workers.training.phrases import CAMERA as CAMERA_PHRASES
from workers.training.phrases import OBJECT as OBJECT_PHRASES

GROWING = torch.arange(1, TIMES + 1)[:, None, None] / TIMES


def least_area(motion, layer, size):
    """The least determinant of a layer's Jacobian, by differences of a fine grid of positions."""
    path = (motion.camera, motion.body)[layer]
    ex, ey = extent(*size)
    line = torch.linspace(-1, 1, 81)
    soft = grid_weights(line * ey, 16) @ motion.soft[layer] @ grid_weights(line * ex, 16).T
    x, y = torch.meshgrid(line * ex, line * ey, indexing="xy")
    at = torch.einsum("nck,kij->cnij", maps(path), torch.stack([x, y, torch.ones_like(x)])) + soft
    d_y, d_x = (at.diff(dim=dim)[..., :80, :80] * 40 / e for dim, e in ((2, ey), (3, ex)))
    return (d_x[0] * d_y[1] - d_x[1] * d_y[0]).amin().item()


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (16, 128), (128, 16)])
def test_soft_motion_of_pure_noise_folds_neither_layer(size):
    noise = torch.randn(2, 2, TIMES, 16, 16, generator=torch.Generator().manual_seed(0))
    wild = LayeredMotion(
        affine_clip(growth=-0.3).camera, affine_clip(body={"turn": 0.5}).body, noise
    )
    limited = wild.scaled(2.0).dense().limited(*size)
    assert least_area(wild, 0, size) < 0
    assert min(least_area(limited, layer, size) for layer in (0, 1)) > 0.01


@pytest.mark.parametrize("size", [(60, 80), (64, 64)])
@pytest.mark.parametrize(
    "camera",
    [{"growth": -0.5}, {"growth": 0.4}, {"turn": 0.3}, {"x": -0.2, "y": 0.25}, {"x": 0.3}],
)
def test_what_a_camera_does_is_left_as_it_is(camera, size):
    motion = affine_clip(**camera)
    limited = motion.limited(*size)
    assert torch.allclose(limited.camera, motion.camera, atol=1e-5)


def test_what_bends_is_held_back_and_the_camera_is_not():
    x, y = place(16)
    bump = torch.exp(-(x**2 + y**2) / 0.08)
    soft = torch.zeros(2, 2, TIMES, 16, 16)
    soft[0, 0] = 0.6 * bump * GROWING
    motion = affine_clip(x=0.2, soft=soft)
    limited = motion.limited(64, 64)
    assert torch.equal(limited.camera, motion.camera)
    assert 0.05 < limited.soft[0, 0, -1].max() < 0.4
    assert least_area(motion, 0, (64, 64)) < 0
    assert least_area(limited, 0, (64, 64)) > LEAST_AREA * 0.8


@pytest.mark.parametrize("size", [(64, 512), (512, 64)])
def test_a_panorama_moves_along_its_short_side_no_further_than_a_photo(size):
    """In shares of the side it runs along."""
    narrow = min(extent(*size))
    along = "y" if size[0] < size[1] else "x"
    limited = affine_clip(**{along: 0.15}).limited(*size).camera[-1]
    share = limited[int(along == "y"), 2].item() / narrow
    assert share == pytest.approx(0.15 / (9 / 16), rel=0.01), "as in a picture of 16:9"
    other = affine_clip(**{"xy".replace(along, ""): 0.15})
    assert torch.allclose(other.limited(*size).camera, other.camera)
    turn = affine_clip(turn=0.14).limited(*size).camera[-1]
    assert turn[:, :2].abs().max() < 0.3 * narrow


def test_a_turn_does_not_magnify():
    path = affine_clip(turn=0.3).camera
    assert zoom_of(path) == pytest.approx(1, abs=1e-4)
    assert zoom_of(affine_clip(growth=-0.2).camera) == pytest.approx(1.25, abs=1e-3)


def test_motion_between_fields_starts_at_rest_and_passes_through_them():
    motion = affine_clip(x=0.2)
    at = motion.at(torch.tensor([0.0, 0.5, 1.0])).camera[:, 0, 2]
    assert at.tolist() == pytest.approx([0, 0.1, 0.2], abs=1e-6)


# What was asked, and nothing else.


def test_a_prompt_in_plain_words_is_read():
    assert set(CAMERA) == set(CAMERA_PHRASES) and set(OBJECT) == set(OBJECT_PHRASES)
    assert Asked.read("the waves crash") is None
    assert Asked.read("gently sway, pan left") == Asked("pan left", "sway", 0.6)
    assert Asked.read("background ripple") == Asked(object="ripple", target="background")
    assert Asked.read("still") == Asked()


def all_at_once():
    """A camera's path that pans, tilts, zooms, turns and shears."""
    path = affine_clip(growth=-0.1, turn=0.2, x=-0.15, y=0.1).camera
    path[:, 0, 1] += 0.05
    return path


@pytest.mark.parametrize("camera", list(CAMERA))
def test_a_camera_does_what_was_asked_and_nothing_else(camera):
    kept = camera_only(all_at_once(), Asked(camera=camera))
    x, y, growth, turn = (float(part != 0) for part in CAMERA[camera])
    end = kept[-1]
    assert end[:, 2].tolist() == pytest.approx([-0.15 * x, 0.1 * y])
    assert end[0, 0] == end[1, 1] == pytest.approx(-0.1 * growth)
    assert end[1, 0] == -end[0, 1] == pytest.approx(0.175 * turn)


def test_a_subject_that_is_not_asked_to_move_goes_with_the_camera():
    pan = affine_clip(x=-0.17).camera
    assert torch.allclose(carried_body(pan, Asked(camera="pan left")), (1 + PARALLAX) * pan)
    turn = affine_clip(turn=0.14).camera
    assert torch.equal(carried_body(turn, Asked(camera="rotate left")), turn)
    behind = Asked(object="drift left", target="background")
    assert camera_only(pan, behind).any(), "the background moves as a whole"
    assert not carried_body(pan, behind).any(), "and the subject stays where it is"


def test_what_the_lower_edge_cuts_off_is_held_there():
    hop = affine_clip(y=0.12).camera
    held = rooted(hop, top=-0.4, base=0.6)

    def lift(y):
        return (held[:, 1] @ torch.tensor([0.1, y, 1.0])).tolist()

    assert lift(0.6) == pytest.approx([0] * TIMES, abs=1e-6)
    assert lift(-0.4) == pytest.approx(hop[:, 1, 2].tolist())
    assert torch.equal(held[:, 0], hop[:, 0])


def test_only_the_layer_that_was_asked_to_may_bend():
    bend = {name: soft_layers(Asked.read(name)) for name in ("ripple", "spin", "pan left")}
    assert bend == {"ripple": (True, True), "spin": (False, False), "pan left": (False, False)}
    assert soft_layers(Asked.read("background sway")) == (True, False)
    assert soft_layers(Asked.read("subject ripple")) == (False, True)
    assert soft_layers(None) == (True, True)


@pytest.fixture(scope="module")
def shipped():
    return Animation.load(matte="none")


def layers_of(animation, picture, prompt, seed=0, matte=None):
    return animation.denoise(np.ascontiguousarray(picture), matte, prompt, seed)


@pytest.mark.parametrize("prompt", ["ripple", "strongly sway", "strongly background sway"])
def test_no_clip_of_the_shipped_model_folds(shipped, prompt):
    for picture in (data.astronaut()[::4, ::4], data.rocket()[::4, ::4]):
        size = picture.shape[:2]
        for matte in (None, disc(size[0], size[0] / 4, size[1])):
            motion = layers_of(shipped, picture, prompt, matte=matte).scaled(2.0)
            limited = motion.dense().limited(*size)
            assert min(least_area(limited, layer, size) for layer in (0, 1)) > 0.05


def test_ambient_motion_is_a_mild_zoom_and_bends_nothing(shipped):
    for seed in (0, 1):
        motion = layers_of(shipped, data.coffee()[::2, ::2], "", seed)
        assert 1.04 < zoom_of(motion.camera) < 1.12
        assert not motion.soft.any()


@pytest.mark.parametrize("thing", ["sway", "bob", "spin", "pulse", "drift left"])
def test_a_background_that_was_not_asked_to_move_does_not_move_at_all(shipped, thing):
    picture = data.astronaut()[::4, ::4]
    motion = layers_of(shipped, picture, f"subject {thing}", matte=disc(128, 32))
    assert not motion.camera.any() and not motion.soft[0].any()
    assert motion.body.abs().max() > 0.02
    assert thing == "sway" or not motion.soft[1].any()
