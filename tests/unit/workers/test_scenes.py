"""Scenes in layers: reproducible, rigid where they should be, and moving as their words say."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from app.domain.prompt.motions import CameraMotion, ObjectMotion, Strength, Understood
from workers.pipeline.affine import to_fields
from workers.pipeline.layers import maps
from workers.training import scenes
from workers.training.batches import batches
from workers.training.captions import Motion
from workers.training.flow import motion_of, possible_motions, visible_flow
from workers.training.motions import (
    BACKGROUND,
    SUBJECT,
    Freedom,
    Stage,
    cells,
    freedoms,
    stage_of,
    truth_of,
)
from workers.training.photos import INDEX, PhotoSet
from workers.training.phrases import CAMERA, OBJECT, STRENGTH
from workers.training.pictures import letterboxed
from workers.training.prompts import plain, prompt

PX = 256  # half a side of a 512 px picture
MOVING = [name for name in OBJECT if name != "still"]


@pytest.fixture(scope="module")
def many():
    return [scenes.draw_scene(3, number, None) for number in range(150)]


def box(top=20, bottom=44, left=16, right=40):
    """The matte of a box, (64, 64)."""
    matte = np.zeros((64, 64), np.float32)
    matte[top:bottom, left:right] = 1
    return matte


def stage(matte=None, water=None, foliage=None):
    empty = np.zeros((64, 64), np.float32)
    given = (box() if matte is None else matte, water, foliage)
    return stage_of(*(empty if part is None else part for part in given))


def truth(camera="still", thing="still", target="", strength="normal", on=None, free=None):
    kind = Motion(camera, thing, strength, target)
    return truth_of(kind, on or stage(), 1.0, free or Freedom())


def test_a_scene_follows_from_seed_and_number_alone():
    first, again = (scenes.draw_scene(5, 17, None) for _ in range(2))
    assert np.array_equal(first.picture.colours, again.picture.colours)
    assert torch.equal(first.truth.camera, again.truth.camera)
    assert torch.equal(first.truth.soft, again.truth.soft)
    assert (first.prompt, first.kind, first.free) == (again.prompt, again.kind, again.free)
    for other in (scenes.draw_scene(5, 18, None), scenes.draw_scene(6, 17, None)):
        assert not np.array_equal(first.picture.colours, other.picture.colours)


def test_pictures_have_the_documented_shape_and_range(many):
    for scene in many:
        picture = scene.picture
        assert picture.colours.shape == (3, 64, 64)
        for part in (picture.colours, picture.matte, picture.water, picture.foliage):
            assert part.dtype == np.float32 and part.shape[-2:] == (64, 64)
            assert part.min() >= -1e-6 and part.max() <= 1 + 1e-6
    assert 0.6 < np.mean([scene.stage.has_subject for scene in many]) < 1
    assert np.mean([scene.stage.water.mean() > 0.05 for scene in many]) > 0.15
    assert np.mean([scene.stage.foliage.mean() > 0.05 for scene in many]) > 0.15


def test_every_kind_of_motion_is_drawn(many):
    assert {scene.kind.camera for scene in many} == set(CAMERA)
    assert {scene.kind.object for scene in many} == set(OBJECT)
    assert {scene.kind.strength for scene in many} == set(STRENGTH)
    assert {scene.kind.target for scene in many} == {"", SUBJECT, BACKGROUND}


@pytest.mark.parametrize("camera", [name for name in CAMERA if name != "still"])
def test_a_camera_keeps_straight_lines_straight(camera):
    made = truth(camera)
    assert not made.soft.any() and not made.masks.any()
    assert made.camera.abs().max() > 0.05
    # Three points on a line stay on one, in every frame.
    line = torch.tensor([[-0.9, -0.5, 1], [0.1, 0.1, 1], [0.6, 0.4, 1]])
    at = torch.einsum("tck,nk->tnc", maps(made.camera), line)
    first, second = at[:, 1] - at[:, 0], at[:, 2] - at[:, 0]
    assert (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).abs().max() < 1e-5


@pytest.mark.parametrize("thing", MOVING)
def test_a_subject_moves_alone(thing):
    made = truth(thing=thing, target=SUBJECT)
    assert not made.camera.any() and not made.soft[0].any()
    assert made.body.any() or made.soft[1].any()
    flow = visible_flow(motion_of(made, stage()), torch.from_numpy(box()), 32)
    far = torch.ones(32, 32, dtype=torch.bool)
    far[2:30, 0:28] = False  # further away than any of these motions reaches
    assert not flow[:, :, far].any()
    assert flow.abs().max() * PX > 5


@pytest.mark.parametrize("thing", MOVING)
def test_a_background_moves_behind_a_subject_at_rest(thing):
    made = truth(thing=thing, target=BACKGROUND)
    assert made.camera.any() or made.soft[0].any()
    body = motion_of(made, stage()).body
    assert to_fields(body, 16).abs().max() * PX < 0.01
    assert not made.soft[1].any()


def test_the_subject_occludes_the_background():
    """What a drift uncovers is background, and background that it covers is not seen."""
    made = motion_of(truth(thing="drift right", target=SUBJECT), stage())
    flow = visible_flow(made, torch.from_numpy(box()), 64)
    last = flow[0, -1] * PX / 8  # in pixels of the matte
    moved = last[30] != 0
    columns = torch.arange(64)[moved].tolist()
    shift = round(0.2 * 32)
    assert columns == list(range(16 + shift, 40 + shift))


def test_a_spin_keeps_its_centre_and_a_sway_its_root():
    on = stage()
    spin = motion_of(truth(thing="spin", on=on), on).body
    centre = torch.cat([on.centre, torch.ones(1)])
    assert torch.allclose(maps(spin) @ centre, on.centre.expand(8, 2), atol=1e-5)
    sway = motion_of(truth(thing="sway", on=on), on).body
    root = torch.tensor([0.2, on.bottom, 1.0])
    assert torch.allclose(maps(sway) @ root, root[:2].expand(8, 2), atol=1e-5)


def test_near_things_pan_further_than_far_ones_and_turn_as_far():
    for camera, more in (("pan left", 1.15), ("rotate left", 1.0)):
        motion = motion_of(truth(camera), stage())
        far, near = (path[-1].abs().max().item() for path in (motion.camera, motion.body))
        assert near / far == pytest.approx(more, abs=0.01)


def test_water_ripples_and_foliage_sways():
    area = np.zeros((64, 64), np.float32)
    area[40:] = 1
    for thing, on in (("ripple", stage(water=area)), ("sway", stage(foliage=area))):
        made = truth(thing=thing, target=BACKGROUND, on=on)
        assert torch.equal(made.masks[0], cells(area))
        assert not made.soft[0][..., :10, :].any()
        assert made.soft[0][..., 11:, :].abs().max() * PX > 5


def test_without_a_subject_the_picture_moves_as_a_whole():
    nobody = stage(matte=np.zeros((64, 64), np.float32))
    made = truth(thing="bob", on=nobody)
    assert made.camera.any() and not made.body.any() and not made.soft.any()


@pytest.mark.parametrize("thing", ["sway", "ripple"])
def test_soft_motion_is_at_rest_at_the_start(thing):
    for target in (SUBJECT, BACKGROUND):
        soft = truth(thing=thing, target=target).soft
        steps = soft.diff(dim=2, prepend=torch.zeros_like(soft[:, :, :1]))
        assert steps[:, :, 0].abs().max() <= 1.2 * steps.abs().max()


def test_strength_words_scale_every_motion():
    for kind in (("pan left", "still"), ("still", "drift left"), ("zoom out", "still")):
        weak, strong = (
            motion_of(truth_of(Motion(*kind, "normal"), stage(), a, Freedom()), stage())
            for a in (0.6, 1.5)
        )
        assert torch.allclose(2.5 * weak.camera, strong.camera, atol=1e-5)
        assert torch.allclose(2.5 * weak.body, strong.body, atol=1e-5)


def test_words_leave_directions_open(many):
    assert len(freedoms(Motion("pan left", "drift left", "normal"))) == 1
    assert len(freedoms(Motion("still", "spin", "normal"))) == 2
    assert len(freedoms(Motion("handheld", "ripple", "normal"))) == 8
    for scene in many[:20]:
        ways = [motion for free, motion in possible_motions(scene) if free == scene.free]
        assert torch.equal(ways[0].camera, scene.truth.camera)


def test_energies_are_mean_squares():
    made = truth("pan left", "ripple", on=stage(water=np.ones((64, 64), np.float32)))
    camera = to_fields(made.camera, 16).square().mean()
    expected = [
        camera,
        to_fields(made.body, 16).square().mean(),
        *made.soft.square().mean((1, 2, 3, 4)),
    ]
    assert torch.allclose(made.energies(), torch.stack(expected))


def test_a_letterboxed_picture_is_mirrored_and_its_matte_ends_at_the_edge():
    rng = np.random.default_rng(0)
    picture = scenes.draw_picture(1, 2, None)
    full = type(picture)(
        picture.colours, np.ones((64, 64), np.float32), picture.water, picture.foliage
    )
    cut = letterboxed(full, rng)
    axis = int(cut.matte.all(0).sum() < cut.matte.all(1).sum())  # 0: columns are cut
    inside = np.flatnonzero(cut.matte.max(axis))
    first = inside[0]
    colours = np.moveaxis(cut.colours, 2 - axis, 1)
    assert 0 < first < 32 and inside[-1] == 63 - first
    assert np.array_equal(colours[:, first], colours[:, first - 1])
    assert np.array_equal(colours[:, 63 - first], colours[:, 64 - first])


def test_plain_prompts_are_what_the_engine_sends():
    for camera, thing, strength in (
        ("pan left", "sway", "gentle"),
        ("still", "ripple", "strong"),
        ("zoom in", "still", "normal"),
        ("still", "still", "normal"),
    ):
        understood = Understood(CameraMotion(camera), ObjectMotion(thing), Strength(strength))
        assert plain(Motion(camera, thing, strength)) == understood.plain
    named = plain(Motion("pan left", "sway", "gentle", SUBJECT))
    assert named == "gently subject sway, pan left"
    assert plain(Motion("still", "ripple", "normal", BACKGROUND)) == "background ripple"


def test_a_target_is_named_in_free_prompts_too():
    rng = np.random.default_rng(0)
    for target in (SUBJECT, BACKGROUND):
        kind = Motion("still", "bob", "normal", target)
        texts = [prompt(kind, rng) for _ in range(30)]
        marks = ("subject", "front", "fore") if target == SUBJECT else ("background", "behind")
        assert all(any(mark in text for mark in marks) for text in texts)
        assert len(set(texts)) > 10


def test_a_batch_has_several_motions_for_each_picture():
    made = scenes.make_batch(0, 3, 4, 3, tokeniser(), None)
    assert made.picture.shape == (4, 4, 64, 64)
    assert made.camera.shape == made.body.shape == (12, 8, 2, 3)
    assert made.soft.shape == (4, 2, 2, 8, 16, 16)
    assert made.masks.shape == (12, 2, 16, 16) and made.energies.shape == (12, 4)
    again = scenes.make_batch(0, 3, 4, 3, tokeniser(), None)
    for name, part in vars(made).items():
        assert torch.equal(part, getattr(again, name)), name


def test_mislabelled_rows_are_weighted_by_their_caption():
    made = scenes.make_batch(0, 0, 8, 4, tokeniser(), None, mislabelled=1.0)
    moved = to_fields(made.camera, 16).square().mean((1, 2, 3, 4))
    assert not torch.allclose(made.energies[:, 0], moved, rtol=0.3)


def test_batches_are_the_same_from_any_number_of_processes():
    def make(step):
        return scenes.make_batch(0, step, 2, 2, tokeniser(), None)

    alone, together = (list(batches(make, 3, 7, processes)) for processes in (0, 2))
    assert len(alone) == len(together) == 4
    for one, other in zip(alone, together, strict=True):
        for name, part in vars(one).items():
            assert torch.equal(part, getattr(other, name)), name


def tokeniser():
    from workers.pipeline.text import Tokeniser

    return Tokeniser(16, 512)


@pytest.fixture
def photos(tmp_path):
    """A folder as prepare.py writes it: two cut-outs and two grounds, one of each held out."""
    rng = np.random.default_rng(0)
    index = []
    for name, has_subject, held_out in (
        ("a", True, False),
        ("b", False, False),
        ("c", True, True),
        ("d", False, True),
    ):
        colours = rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)
        areas = np.zeros((90, 120, 3), np.uint8)
        if has_subject:
            areas[20:80, 30:90, 0] = 255
        else:
            areas[50:, :, 1] = 255
        Image.fromarray(colours).save(tmp_path / f"{name}.png")
        Image.fromarray(areas).save(tmp_path / f"{name}-areas.png")
        index.append(
            {"name": name, "has_subject": has_subject, "cut_below": False, "held_out": held_out}
        )
    (tmp_path / INDEX).write_text(json.dumps(index))
    return tmp_path


def test_evaluation_sees_no_photo_of_training(photos):
    sides = [PhotoSet.load(photos, held_out=held_out) for held_out in (False, True)]
    names = [{photo.name for photo in side.photos} for side in sides]
    assert names == [{"a", "b"}, {"c", "d"}]
    with pytest.raises(OSError):
        PhotoSet.load(photos / "nothing", held_out=True)


def test_cut_outs_stand_in_front_of_photos(photos):
    side = PhotoSet.load(photos, held_out=False)
    drawn = [side.draw(np.random.default_rng(n), real=True) for n in range(20)]
    assert all(0.02 < picture.matte.mean() < 0.95 for picture in drawn if picture.matte.any())
    both = [picture for picture in drawn if picture.matte.any() and picture.water.any()]
    assert both
    for picture in both:
        assert (picture.water * picture.matte).max() < 0.3
        assert picture.colours.shape == (3, 64, 64)
    scene = scenes.draw_scene(1, 1, side, real=True)
    assert np.array_equal(
        scene.picture.colours, scenes.draw_scene(1, 1, side, real=True).picture.colours
    )


def test_a_subject_that_the_lower_edge_cuts_off_keeps_its_root():
    """It stretches or swells from there: lifted, it would show the cut."""
    cut = stage(matte=box(bottom=64))
    assert cut.rooted and not stage().rooted
    root = torch.tensor([0.1, 1.0, 1.0])
    for thing in ("bob", "pulse", "sway"):
        body = motion_of(truth(thing=thing, on=cut), cut).body
        assert (maps(body) @ root)[:, 1] == pytest.approx(torch.ones(8), abs=1e-5), thing
        lifted = motion_of(truth(thing=thing), stage()).body
        assert not torch.allclose(body, lifted)
    letterboxed_box = stage_of(box(bottom=52), *(np.zeros((64, 64), np.float32),) * 2, 52 / 32 - 1)
    assert letterboxed_box.rooted


def test_what_ripples_is_behind_the_subject_unless_the_subject_is_named():
    assert truth(thing="ripple").masks[0].any()
    assert truth(thing="ripple", target=SUBJECT).masks[1].any()


def test_stage_is_made_of_what_is_visible():
    assert stage().bottom == pytest.approx(2 * 44 / 64 - 1)
    assert stage().height == pytest.approx(2 * 24 / 64)
    assert isinstance(stage(), Stage) and stage().has_subject
