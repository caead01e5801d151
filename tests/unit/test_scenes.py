"""Procedural scenes: reproducible, still at the start, moving as their words say."""

import numpy as np
import pytest

from workers.training import captions, scenes
from workers.training.captions import CAMERA, OBJECT, STRENGTH, Motion


@pytest.fixture(scope="module")
def many():
    return [scenes.draw_scene(3, number) for number in range(200)]


def test_a_scene_follows_from_seed_and_number_alone():
    first, again = scenes.draw_scene(5, 17), scenes.draw_scene(5, 17)
    assert np.array_equal(first.picture, again.picture)
    assert np.array_equal(first.motion, again.motion)
    assert first.caption == again.caption
    assert not np.array_equal(first.picture, scenes.draw_scene(5, 18).picture)
    assert not np.array_equal(first.picture, scenes.draw_scene(6, 17).picture)


def test_pictures_and_motions_have_the_promised_shape_and_range(many):
    for scene in many:
        assert scene.picture.shape == (3, 32, 32) and scene.picture.dtype == np.float32
        assert scene.motion.shape == (2, 16, 16, 16) and scene.motion.dtype == np.float32
        assert scene.picture.min() >= 0 and scene.picture.max() <= 1
        assert np.abs(scene.motion).max() < 0.8


def test_motion_starts_at_rest(many):
    """The field at time 0 is zero, so the first one is a small step away from it."""
    for scene in many:
        steps = np.diff(scene.motion, axis=1, prepend=0)
        assert np.abs(steps[:, 0]).max() <= 1.6 * np.abs(steps).max(initial=0)


@pytest.mark.parametrize(
    ("name", "axis", "sign"),
    [("pan left", 0, -1), ("pan right", 0, 1), ("tilt up", 1, -1), ("tilt down", 1, 1)],
)
def test_the_camera_looks_where_it_is_told(name, axis, sign):
    """Panning left means sampling further left."""
    field = scenes.camera_field(name, 1.0)
    assert (np.sign(field[axis]) == sign).all()
    assert (field[1 - axis] == 0).all()
    assert (np.diff(np.abs(field[axis]), axis=0) > 0).all()


def test_zooming_in_samples_nearer_to_the_centre():
    x, y = scenes.grid(scenes.GRID)
    u = scenes.camera_field("zoom in", 1.0)[:, -1]
    assert (np.hypot(x + u[0], y + u[1]) < np.hypot(x, y)).all()


def test_rotation_keeps_distances_from_the_centre():
    x, y = scenes.grid(scenes.GRID)
    u = scenes.camera_field("rotate", 1.0)[:, -1]
    before, after = np.hypot(x, y), np.hypot(x + u[0], y + u[1])
    assert np.abs(after / before - 1).max() < 0.01


@pytest.mark.parametrize("name", [n for n in OBJECT if n not in ("none", "waves")])
def test_an_object_moves_near_itself_and_nothing_else_does(name):
    body = scenes.Body("ellipse", np.array([-0.5, 0.0]), np.array([0.25, 0.25]), 0.0, 3, 0.1)
    x, y = scenes.grid(scenes.GRID)
    mask = scenes.smoothstep(1 - np.maximum(body.outside(x, y), 0) / scenes.FADE)
    moved = np.abs(scenes.body_field(name, body, 1.0) * mask).max((0, 1))
    assert moved[np.hypot(x + 0.5, y) < 0.25].max() > 0.02
    assert (moved[np.hypot(x + 0.5, y) > 0.25 + scenes.FADE + 0.01] == 0).all()


def test_a_drift_to_the_left_takes_its_colours_from_the_right():
    body = scenes.Body("ellipse", np.zeros(2), np.array([0.3, 0.3]), 0.0, 3, 0.1)
    assert (scenes.body_field("drift left", body, 1.0)[0] > 0).all()
    assert (scenes.body_field("drift right", body, 1.0)[0] < 0).all()


def test_strength_words_scale_the_motion():
    assert scenes.AMOUNT["gentle"] < scenes.AMOUNT["normal"] < scenes.AMOUNT["strong"]
    assert scenes.AMOUNT.keys() == STRENGTH.keys()


def test_warps_rarely_fold():
    """Where du/dx < -1 a part of the picture appears twice: only strong drifts may do that."""
    cell = 2 / scenes.GRID
    folded = 0
    for number in range(300):
        scene = scenes.draw_scene(9, number)
        if scene.kind.strength != "strong":
            u, v = scene.motion
            folded += min(np.diff(u, axis=2).min(), np.diff(v, axis=1).min()) / cell < -1
    assert folded <= 3


def test_every_kind_of_motion_is_drawn(many):
    assert {scene.kind.camera for scene in many} == set(CAMERA)
    assert {scene.kind.object for scene in many} == set(OBJECT)
    assert {scene.kind.strength for scene in many} == set(STRENGTH)


def test_captions_hold_only_words_of_the_vocabulary_and_fit(many):
    words = set(captions.vocabulary()) | captions.EMPTY_WORDS
    for scene in many:
        said = scene.caption.replace(",", "").split()
        assert set(said) <= words
        assert len(said) <= captions.LENGTH


def test_captions_of_one_motion_differ():
    rng = np.random.default_rng(0)
    said = {captions.caption(Motion("zoom in", "sway", "gentle"), rng) for _ in range(50)}
    assert len(said) > 30


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A gentle breeze", ["gentle", "breeze"]),
        ("Slowly zoom in!", ["slow", "zoom", "in"]),
        ("the dahlia sways GENTLY", ["sways", "gentle"]),
        ("rotating", ["rotate"]),
        ("a wave", ["waves"]),
        ("quixotic zebra ünïcode 漢字", []),
        ("", []),
    ],
)
def test_free_prompts_are_read_by_their_known_words(prompt, expected):
    vocabulary = captions.vocabulary()
    numbers = captions.tokeniser()(prompt)
    assert numbers.shape == (captions.LENGTH,)
    assert [vocabulary[n - 1] for n in numbers.tolist() if n] == expected


def test_a_prompt_of_any_length_fits():
    assert captions.tokeniser()("wind " * 2000).shape == (captions.LENGTH,)
