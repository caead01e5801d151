"""Layered motion: limited to what a picture bears, and split from a sheet as it was asked."""

import numpy as np
import pytest
import torch
from skimage import data

from tests.support.layered import TIMES, affine, affine_clip
from workers.pipeline.animation import AMBIENT, Animation
from workers.pipeline.asked import CAMERA, OBJECT, Asked, without_target
from workers.pipeline.decompose import PARALLAX, decompose
from workers.pipeline.grid import extent, grid_weights, place
from workers.pipeline.layers import LEAST_AREA, LayeredMotion, displaced, maps, zoom_of
from workers.training import scenes
from workers.training.phrases import CAMERA as CAMERA_PHRASES
from workers.training.phrases import OBJECT as OBJECT_PHRASES
from workers.training.scenes import draw_scene, motion_field

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


# From a sheet to layers.


def test_the_amplitudes_are_those_of_training():
    assert set(CAMERA) == set(CAMERA_PHRASES) and set(OBJECT) == set(OBJECT_PHRASES)
    for name, (x, y, growth, turn) in CAMERA.items():
        field = torch.from_numpy(scenes.camera_field(name)).double()
        if name == "handheld":
            assert (x, y) == pytest.approx((0.07, 1.2 * 0.07))
            continue
        true = affine(growth, turn, x, y)[None]
        assert torch.allclose(displaced(true.double(), 16)[:, 0], field[:, -1], atol=1e-6), name
    assert OBJECT == scenes.OBJECT_AMPLITUDE


def scene_and_matte(kind_seed, camera, thing, amount=1.0):
    """The true sheet of a scene with one body, and that body's matte."""
    scene = draw_scene(kind_seed, 1)
    bodies = scene.bodies[:1]
    matte = torch.from_numpy((bodies[0].outside(scenes._X, scenes._Y) < 0).astype(np.float32))
    return torch.from_numpy(motion_field(camera, thing, bodies, None, amount)), matte


@pytest.mark.parametrize("camera", [name for name in CAMERA if name != "still"])
@pytest.mark.parametrize(("adverb", "amount"), [("gently ", 0.6), ("", 1), ("strongly ", 1.5)])
def test_the_camera_gets_the_asked_strength_and_nothing_else(camera, adverb, amount):
    """Of a sheet that does it at 0.8 of that strength, with an unasked zoom and a moving body."""
    sheet, matte = scene_and_matte(3, camera, "sway", amount)
    sheet = 0.8 * sheet + 0.05 * torch.stack(list(place(16)))[:, None] * GROWING
    found = decompose(sheet, matte, Asked.read(adverb + camera))
    x, y, growth, turn = (amount * part for part in CAMERA[camera])
    if camera == "handheld":
        length = found.camera[:, :, 2].norm(dim=1).max().item()
        assert length == pytest.approx(amount * 0.084, rel=0.2)
        assert not found.camera[..., :2].any()
    else:
        assert torch.allclose(found.camera[-1], affine(growth, turn, x, y), atol=1e-3)
    assert not found.soft.any()


def test_a_camera_that_is_not_asked_for_stands_still_exactly():
    sheet, matte = scene_and_matte(3, "pan left", "sway")
    found = decompose(sheet, matte, Asked(object="sway"))
    assert not found.camera.any() and found.body.any() and not found.soft.any()


def test_a_subject_that_is_not_asked_to_move_goes_with_the_camera():
    sheet, matte = scene_and_matte(3, "pan left", "spin")
    found = decompose(sheet, matte, Asked(camera="pan left"))
    assert torch.allclose(found.body, (1 + PARALLAX) * found.camera)
    turned = decompose(sheet, matte, Asked(camera="rotate left"))
    assert torch.equal(turned.body, turned.camera), "a turn has no parallax"


@pytest.mark.parametrize("thing", ["sway", "bob", "spin", "pulse", "drift left", "drift right"])
def test_a_body_moves_as_asked_even_if_the_network_missed_it(thing):
    for scale in (1.0, 0.0, -0.5):
        sheet, matte = scene_and_matte(3, "still", thing)
        found = decompose(scale * sheet, matte, Asked(object=thing))
        true, _ = scene_and_matte(3, "still", thing)
        moved = displaced(found.body, 16)
        on = matte > 0.5
        cosine = (moved * true)[..., on].sum() / (moved[..., on].norm() * true[..., on].norm())
        assert cosine > 0.9, (thing, scale)
        ratio = moved[..., on].norm() / true[..., on].norm()
        assert 0.3 < ratio < 1.6, (thing, scale, ratio)


def test_without_a_subject_only_the_camera_moves_unless_something_soft_was_asked():
    sheet, _ = scene_and_matte(3, "pan left", "ripple")
    nothing = torch.zeros(16, 16)
    found = decompose(sheet, nothing, Asked(camera="pan left", object="spin"))
    assert found.camera.any() and not found.soft.any()
    rippled = decompose(sheet, nothing, Asked(camera="pan left", object="ripple"))
    assert rippled.soft[0].any() and not rippled.soft[1].any()
    strongest = rippled.soft[0].norm(dim=0).amax(0)
    assert (strongest == 0).float().mean() > 0.3, "exactly zero where nothing ripples"


def test_a_prompt_in_free_words_keeps_the_sheets_own_camera():
    assert Asked.read("the waves crash") is None
    assert Asked.read("gently sway, pan left") == Asked("pan left", "sway", 0.6)
    assert Asked.read("still") == Asked()
    sheet, matte = scene_and_matte(3, "pan left", "still")
    assert decompose(sheet, matte, None).camera[-1, 0, 2].item() == pytest.approx(-0.17, abs=0.03)


@pytest.fixture(scope="module")
def shipped():
    return Animation.load(matte="none")


@pytest.mark.parametrize("prompt", ["ripple", "strongly sway", "strongly drift left"])
def test_no_clip_of_the_shipped_model_folds(shipped, prompt):
    matte = torch.zeros(16, 16)
    for picture in (data.astronaut()[::4, ::4], data.rocket()[::4, ::4]):
        size = picture.shape[:2]
        sheet = shipped.denoise(picture, prompt, 0, 4)
        for covered in (matte, matte + (place(16).norm(dim=0) < 0.5)):
            motion = decompose(sheet, covered, Asked.read(prompt), size).scaled(2.0)
            limited = motion.dense().limited(*size)
            assert min(least_area(limited, layer, size) for layer in (0, 1)) > 0.05


def test_ambient_motion_is_a_mild_zoom_and_bends_nothing(shipped):
    photo = np.ascontiguousarray(data.coffee()[::2, ::2])
    for seed in (0, 1):
        sheet = shipped.denoise(photo, "", seed, 4)
        motion = decompose(sheet, torch.zeros(16, 16), AMBIENT, photo.shape[:2])
        assert 1.04 < zoom_of(motion.camera) < 1.12
        assert not motion.soft.any()


def test_a_named_target_is_what_moves():
    sheet, matte = scene_and_matte(3, "still", "ripple")
    on, off = (
        decompose(sheet, matte, Asked.read(f"{target} ripple"))
        for target in ("subject", "background")
    )
    assert on.soft[1].any() and not on.soft[0].any()
    assert not off.soft[1].any()
    clouds = decompose(sheet, matte, Asked.read("background drift left"))
    assert not clouds.body.any(), "the subject stays where it is"
    assert without_target("gently subject sway, pan left") == "gently sway, pan left"
    assert without_target("waves crash") == "waves crash"
