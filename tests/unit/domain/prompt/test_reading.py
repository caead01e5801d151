"""The grammar of prompts: what counts, what is refused, and what has no effect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.prompt.motions import CameraMotion, ObjectMotion
from app.domain.prompt.reading import Grammar, understand
from workers.training import phrases


def read(prompt):
    return understand(Grammar.MOTION_WORDS, prompt)


CAMERA_PHRASES = [
    (phrase, motion)
    for table in (phrases.CAMERA, phrases.HELD_OUT_CAMERA)
    for motion, found in table.items()
    for phrase in found
]
OBJECT_PHRASES = [
    (phrase, motion)
    for table in (phrases.OBJECT, phrases.HELD_OUT_OBJECT)
    for motion, found in table.items()
    for phrase in found
]


def test_every_phrase_of_the_captions_is_known():
    """Those of training and the held-out ones, with a subject and without."""
    wrong = []
    for phrase, motion in CAMERA_PHRASES:
        found = read(phrase)
        if (found.camera, found.object) != (motion, None):
            wrong.append((phrase, found))
    for phrase, motion in OBJECT_PHRASES:
        for subject in ("", "the flower ", "a boat "):
            found = read(subject + phrase)
            if (found.camera, found.object, found.unsupported) != (None, motion, ()):
                wrong.append((subject + phrase, found))
    assert wrong == []
    assert len(CAMERA_PHRASES) > 250
    assert len(OBJECT_PHRASES) > 250


def test_what_the_model_gets_is_among_the_phrases_that_it_was_trained_with():
    for camera in set(CameraMotion) - {CameraMotion.STILL}:
        assert camera in phrases.CAMERA[camera]
    for thing in set(ObjectMotion) - {ObjectMotion.STILL}:
        assert thing in phrases.OBJECT[thing]
    assert {"gently"} <= set(phrases.STRENGTH["gentle"])
    assert {"strongly"} <= set(phrases.STRENGTH["strong"])
    assert "still" in phrases.NOTHING


@pytest.mark.parametrize("phrase", phrases.NOTHING)
def test_phrases_for_stillness_stand_still(phrase):
    assert read(phrase).plain == "still"


@pytest.mark.parametrize(
    ("strength", "adverb"),
    [(strength, adverb) for strength, found in phrases.STRENGTH.items() for adverb in found],
)
def test_every_adverb_is_known(strength, adverb):
    assert read(f"{adverb} zoom in").strength == strength
    assert read(f"the tree sways {adverb}, pan left").strength == strength


@pytest.mark.parametrize(
    "prompt",
    [
        *("", "   ", "...", "asdf qwer", "волны шумят", "🎉", "물결"),
        *("a portrait of a woman in soft light", "a frozen lake in winter", "the bird flies away"),
        *("still life with apples", "a strong man on the left", "stop motion animation of a cat"),
        *("no", "not", "the", "no people", "she does not blink", "a big rock", "'"),
        *phrases.SUBJECTS,
        *phrases.FILLERS,
        *phrases.AMBIENT,
    ],
)
def test_a_prompt_that_names_no_motion_is_the_empty_prompt(prompt):
    found = read(prompt)
    assert found.ambient
    assert found.plain == ""
    assert found.strength is None


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("no zoom", "gently sway"),
        ("no zoom in", "gently sway"),
        ("the camera does not zoom out", "gently sway"),
        ("without sway", "gently zoom in"),
        ("there is no wind", "gently zoom in"),
        ("no zoom, no sway", "still"),
        ("no zoom and sway", "still"),
        ("no zoom or sway", "still"),
        ("neither zoom nor sway", "still"),
        ("no motion", "still"),
        ("don't move", "still"),
        ("no camera movement", "gently sway"),
        ("static camera", "gently sway"),
        ("don't rotate", ""),
        ("don’t rotate", ""),
        ("do not rotate the camera", ""),
        ("stop rotating", ""),
        ("no zoom, the grass sways", "sway"),
        ("the grass sways, no zoom", "sway"),
        ("zoom in without shaking", "zoom in"),
        ("never zoom. waves", "ripple"),
        ("no zoom and pan left", "pan left"),
        ("no zoom but pan left", "pan left"),
        ("no zoom, pan or rotation", "gently sway"),
        ("without any zoom or camera shake, gentle waves", "gently ripple"),
        ("camera is not moving, flag waving in the wind", "sway"),
        ("zoom in, don't zoom out", "zoom in"),
        ("zoom in, no zoom", "gently sway"),
        ("not only zoom out but sway", "sway, zoom out"),
        ("not static, pan left", "pan left"),
        ("keep the house still", "gently zoom in"),
    ],
)
def test_refused_motion_is_not_made_nor_its_opposite(prompt, plain):
    assert read(prompt).plain == plain


@pytest.mark.parametrize(
    ("family", "refused"),
    [
        ("zoom", {"zoom in", "zoom out"}),
        ("pan", {"pan left", "pan right"}),
        ("tilt", {"tilt up", "tilt down"}),
        ("rotation", {"rotate left", "rotate right", "spin"}),
        ("camera shake", {"handheld"}),
        ("sway", {"sway"}),
        ("bouncing", {"bob"}),
        ("waves", {"ripple"}),
        ("spinning", {"spin"}),
        ("pulsing", {"pulse"}),
        ("drifting", {"drift left", "drift right"}),
    ],
)
@pytest.mark.parametrize("negator", ["no", "without", "never", "avoid", "don't do any"])
def test_a_refusal_covers_the_whole_family(family, refused, negator):
    found = read(f"{negator} {family}")
    assert set(found.excluded) == refused
    assert not refused & {found.camera, found.object}
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("prompt", "plain", "ignored"),
    [
        ("only the helmet sways", "sway", ("helmet",)),
        (
            "slow pan left over the bay with waves",
            "gently ripple, pan left",
            ("bay",),
        ),
        ("Zoom in, then pan right", "zoom in", ("pan", "right")),
        ("the wheel rotates clockwise", "spin", ("wheel",)),
        ("rotate the picture clockwise", "rotate right", ()),
        ("clouds drift", "drift right", ("clouds",)),
        ("static camera, leaves rustle", "sway", ("leaves",)),
        ("the water is still flowing", "ripple", ("water",)),
        ("a Café; asdf, zoom", "zoom in", ("Café", "asdf")),
        ("zoom zoom ZOOM", "zoom in", ()),
        ("asdf asdf", "", ("asdf",)),
    ],
)
def test_words_without_effect_are_listed_as_written(prompt, plain, ignored):
    found = read(prompt)
    assert (found.plain, found.ignored) == (plain, ignored)


def test_a_model_without_a_grammar_takes_free_text():
    assert understand(None, "no zoom") is None


_MIXED = st.lists(
    st.sampled_from(
        [
            "no",
            "zoom",
            "pan",
            "left",
            "sway",
            "asdf",
            "and",
            "or",
            ",",
            ".",
            "still",
            "camera",
            "don't",
            *("only", "water", "the", "hair", "background", "move", "she", "blinks", "around"),
            *("nicht", "Kameraschwenk", "pas", "l'eau", "sin", "agua", "só", "ズームしない"),
            *("揺れる", "だけ", "镜头", "不要", "向左", "头发飘动", "、"),
        ]
    )
    | st.text(max_size=8),
    max_size=60,
).map(" ".join)


@given(_MIXED)
def test_any_text_is_read(prompt):
    found = read(prompt[:1000])
    assert not {found.camera, found.object} & set(found.excluded)
    assert len(" ".join(found.ignored)) <= len(prompt)
    assert found.target is not None or not found.target_words
    fillers = {"only", "だけ", "só", "she"}  # they would not be ignored either
    assert set(found.target_words) <= set(found.ignored) | fillers
    for grammar in Grammar:
        plain = understand(grammar, prompt[:1000]).plain
        assert plain == "" or understand(grammar, plain).plain == plain
