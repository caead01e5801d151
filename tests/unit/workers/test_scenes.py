"""Procedural scenes: reproducible, still at the start, moving as their words say."""

import numpy as np
import pytest

from workers.pipeline.text import Tokeniser
from workers.training import captions, scenery, scenes
from workers.training.captions import AMBIENT_MOTION, Motion
from workers.training.phrases import (
    CAMERA,
    HELD_OUT_CAMERA,
    HELD_OUT_OBJECT,
    OBJECT,
    STRENGTH,
    forms,
)


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


def test_pictures_and_motions_have_the_documented_shape_and_range(many):
    for scene in many:
        assert scene.picture.shape == (3, 64, 64) and scene.picture.dtype == np.float32
        assert scene.motion.shape == (2, 8, 16, 16) and scene.motion.dtype == np.float32
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
def test_the_camera_looks_in_the_given_direction(name, axis, sign):
    """Panning left means sampling further left."""
    field = scenes.camera_field(name)
    assert (np.sign(field[axis]) == sign).all()
    assert (field[1 - axis] == 0).all()
    assert (np.diff(np.abs(field[axis]), axis=0) > 0).all()


def test_zooming_in_samples_nearer_to_the_centre():
    x, y = scenery.grid(scenes.GRID)
    u = scenes.camera_field("zoom in")[:, -1]
    assert (np.hypot(x + u[0], y + u[1]) < np.hypot(x, y)).all()


@pytest.mark.parametrize(("name", "turn"), [("rotate left", 1), ("rotate right", -1)])
def test_rotation_keeps_distances_from_the_centre(name, turn):
    """The picture turns left where it is sampled further to the right (y points down)."""
    x, y = scenery.grid(scenes.GRID)
    u = scenes.camera_field(name)[:, -1]
    before, after = np.hypot(x, y), np.hypot(x + u[0], y + u[1])
    assert np.abs(after / before - 1).max() < 0.011
    assert (np.sign(x * u[1] - y * u[0]) == turn).all()


def test_a_handheld_camera_comes_back():
    field = scenes.camera_field("handheld")
    assert np.abs(field[:, -1]).max() < 1e-6 < np.abs(field).max()


def body(kind="ellipse", x=0.0, y=0.0, radius=0.25):
    return scenery.Body(kind, np.array([x, y]), np.array([radius, radius]), 0.0, 3, 0.1)


@pytest.mark.parametrize("name", [name for name in OBJECT if name != "still"])
def test_an_object_moves_near_itself_and_nothing_else_does(name):
    x, y = scenery.grid(scenes.GRID)
    field = scenes.motion_field("still", name, [body(x=-0.5)], None, 1.0)
    moved = np.abs(field).max((0, 1))
    assert moved[np.hypot(x + 0.5, y) < 0.25].max() > 0.02
    assert (moved[np.hypot(x + 0.5, y) > 0.25 + scenes.FADE + 0.01] == 0).all()


def test_every_object_of_a_scene_moves():
    x, y = scenery.grid(scenes.GRID)
    pair = [body(x=-0.5), body(x=0.5)]
    field = np.abs(scenes.motion_field("still", "bob", pair, None, 1.0)).max((0, 1))
    assert min(field[np.hypot(x - side, y) < 0.2].max() for side in (-0.5, 0.5)) > 0.05


def test_water_ripples_below_the_horizon_only():
    _, y = scenery.grid(scenes.GRID)
    field = np.abs(scenes.motion_field("still", "ripple", [body()], 0.2, 1.0)).max((0, 1))
    assert field[y > 0.6].min() > 0.01
    assert (field[y < 0.2 - 0.3 * scenes.FADE] == 0).all()


def test_a_plant_is_rooted_at_the_foot_of_its_stalk():
    plant = body("plant", y=-0.3)
    x, y = scenery.grid(scenes.GRID)
    bend = np.abs(scenes.body_field("sway", plant)).max((0, 1))
    assert bend[y > plant.base()].max() == 0
    assert bend[:, 0][np.argsort(y[:, 0])].tolist() == sorted(bend[:, 0], reverse=True)
    x, y = scenery.grid(64)
    inside = plant.outside(x, y) < 0
    stalk = inside & (y > 0.05) & (y < plant.base() - 0.05)
    assert stalk.any() and np.abs(x[stalk]).max() < 0.05


def test_a_drift_to_the_left_takes_its_colours_from_the_right():
    assert (scenes.body_field("drift left", body())[0] > 0).all()
    assert (scenes.body_field("drift right", body())[0] < 0).all()


def test_strength_words_scale_the_motion():
    assert scenes.AMOUNT["gentle"] < scenes.AMOUNT["normal"] < scenes.AMOUNT["strong"]
    assert scenes.AMOUNT.keys() == STRENGTH.keys()
    fields = [scenes.motion_field("pan left", "spin", [body()], None, a) for a in (1.0, 1.5)]
    assert np.allclose(fields[1], 1.5 * fields[0])


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


def test_a_kind_can_be_requested_and_held_out_phrases_describe_the_same_scene():
    kind = Motion("tilt up", "bob", "strong")
    plain, held_out = (scenes.draw_scene(4, 8, kind=kind, held_out=held) for held in (False, True))
    assert plain.kind == held_out.kind == kind
    assert np.array_equal(plain.motion, held_out.motion)
    assert np.array_equal(plain.picture, held_out.picture)
    assert plain.caption != held_out.caption


def test_held_out_phrases_are_not_trained_on(tokenise):
    def words_of(group):
        return {tuple(tokenise.words(phrase)) for phrases in group.values() for phrase in phrases}

    for held, known in ((HELD_OUT_CAMERA, CAMERA), (HELD_OUT_OBJECT, OBJECT)):
        assert held.keys() == known.keys() - {"still"}
        assert not words_of(known) & words_of(held)


def test_every_phrase_means_one_motion(tokenise):
    meaning = {}
    for group in (CAMERA, OBJECT):
        for motion, phrases in group.items():
            for phrase in phrases:
                words = tuple(tokenise.words(phrase))
                assert meaning.setdefault(words, motion) == motion, phrase


def test_verbs_are_inflected():
    assert forms("sway in the wind")[1:] == ["sways in the wind", "swaying in the wind"]
    inflected = forms("hop", "pulse", "fly", "push", "leap", "rotate")
    assert {"hopping", "pulsing", "flies", "pushes", "leaping", "rotating"} <= set(inflected)


def test_captions_of_one_motion_differ():
    rng = np.random.default_rng(0)
    captions_drawn = {captions.caption(Motion("zoom in", "bob", "gentle"), rng) for _ in range(50)}
    assert len(captions_drawn) > 30


def test_an_empty_prompt_means_ambient_motion():
    rng = np.random.default_rng(0)
    words = set(captions.vocabulary()) - {"ambient", "motion"}
    texts = [captions.caption(AMBIENT_MOTION, rng) for _ in range(100)]
    empty = [text for text in texts if not words & set(text.replace(",", "").split())]
    assert len(empty) > 20


@pytest.fixture
def tokenise():
    return Tokeniser(16, 4096, frozenset(captions.vocabulary()))


def test_trained_captions_are_never_cut(many, tokenise):
    for scene in many:
        assert len(tokenise.words(scene.caption)) < 16


def test_a_word_in_another_form_shares_pieces_with_it(tokenise):
    def pieces(word):
        return set(tokenise(word)[0].tolist()) - {0}

    assert len(pieces("swaying") & pieces("sways")) >= 3
    assert len(pieces("swaying") & pieces("sways")) > len(pieces("swaying") & pieces("zooms"))


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Slowly zoom in!", ["slowly", "zoom", "in"]),
        ("The DAHLIA, swaying", ["dahlia", "swaying"]),
        ("une légère brise", ["une", "legere", "brise"]),
        ("漢字 123", []),
        ("", []),
    ],
)
def test_prompts_are_split_into_plain_words(tokenise, prompt, words):
    assert tokenise.words(prompt) == words
    assert int((tokenise(prompt)[:, 0] != 0).sum()) == len(words)


def test_a_long_prompt_keeps_the_words_that_name_motions(tokenise):
    story = "once upon some time there stood one very old lonesome tree near forty tall hills "
    assert tokenise.words(story + "and it sways gently")[-2:] == ["sways", "gently"]
    assert tokenise("wind " * 2000).shape == (16, 16)
