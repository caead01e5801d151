"""What an object motion is to move, and what a model with layers is told of it."""

import pytest

from app.domain.prompt.motions import Target
from app.domain.prompt.reading import Grammar, understand
from app.domain.prompt.wishes import OF_ENTRY, Wish, hint


def layered(prompt):
    return understand(Grammar.LAYERED_MOTION_WORDS, prompt)


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("the helmet gently sways, pan left", "gently subject sway, pan left"),
        ("only the water", "background ripple"),
        ("strongly only the water", "strongly background ripple"),
        ("the background moves", "background sway"),
        ("the clouds drift left", "background drift left"),
        ("sway, pan left", "sway, pan left"),
        ("majestically sway", "sway"),
        ("the hair sways, the background sways", "sway"),
        ("zoom in on the background", "zoom in"),
        ("the subject is still", "gently zoom in"),
        ("", ""),
    ],
)
def test_the_plain_words_name_the_target(prompt, plain):
    found = layered(prompt)
    assert found.plain == plain
    assert layered(found.plain).plain == plain, "plain words mean themselves"


@pytest.mark.parametrize("prompt", ["only the helmet sways", "only the water", "waves, zoom in"])
def test_the_plain_words_of_a_model_with_one_layer_stay_as_they_were(prompt):
    found = understand(Grammar.MOTION_WORDS, prompt)
    assert found.target == layered(prompt).target is not None
    assert found.plain == layered(prompt).plain.replace(f"{found.target} ", "")


def test_words_of_the_target_have_no_effect_without_layers():
    found = understand(Grammar.MOTION_WORDS, "only the red helmet sways, asdf")
    assert found.target == Target.SUBJECT
    assert found.ignored == ("red", "helmet", "asdf")
    assert found.target_words == ("only", "helmet")


def test_every_wish_has_a_word_and_a_sentence():
    for wish in Wish:
        assert hint([wish]).startswith("This model cannot make ")
    assert hint([]) is None
    assert (
        hint([Wish.BLINK, Wish.SNOW, Wish.LOOK])
        == "This model cannot make faces blink, snow fall or heads or eyes turn."
    )
    assert set(OF_ENTRY.values()) <= set(Wish)


@pytest.mark.parametrize("wish", ["she blinks", "snow falls", "她眨眼", "sie lächelt", "雨が降る"])
def test_a_wish_changes_nothing(wish):
    for prompt in ("", "pan left", "the hair sways gently, no zoom"):
        with_wish = layered(f"{wish}, {prompt}")
        alone = layered(prompt)
        assert with_wish.plain == alone.plain
        assert with_wish.excluded == alone.excluded
        assert len(with_wish.unsupported) == 1
        assert with_wish.ignored == alone.ignored


def test_a_refused_wish_is_kept_without_a_word():
    found = layered("she does not blink, no smile, zoom in")
    assert (found.unsupported, found.ignored, found.plain) == ((), (), "zoom in")
