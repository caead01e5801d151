"""What a profile does not serve, in sentences with the values that it takes."""

import pytest

from app.config.profiles_file import PROFILES
from app.domain.job.profiles import Option, Profile, refusals
from app.domain.job.served_sizes import parse_size

WAN = Profile(
    name="wan",
    engine="diffusers",
    licence="Apache-2.0",
    steps=4,
    passes=1,
    min_frames=17,
    max_frames=81,
    default_frames=81,
    frames_multiple=4,
    frames_plus=1,
    min_fps=16,
    max_fps=16,
    default_fps=16,
    min_size=832,
    max_size=1280,
    default_size=832,
    sizes=tuple(parse_size(text) for text in ("832x480", "480x832", "1280x720")),
    honours=frozenset({Option.PROMPT}),
    attempt_limit_s=900,
    stall_limit_s=60,
)
GOOD = {"frames": 81, "fps": 16, "size": 832}


@pytest.mark.parametrize(
    ("asked", "field", "sentence"),
    [
        ({"frames": 80}, "frames", "17 to 81 in steps of 4; the nearest are 77 and 81."),
        ({"frames": 82}, "frames", "17 to 81 in steps of 4."),
        ({"frames": 1}, "frames", "17 to 81 in steps of 4."),
        ({"fps": 24}, "fps", "16."),
        ({"size": 1000}, "size", "832 or 1280."),
        ({"motion": 1.5}, "motion", "only 1."),
        ({"loop": True}, "loop", "only false."),
        (
            {"negative_prompt": "blurry"},
            "negative_prompt",
            "no negative prompt; it takes prompt.",
        ),
    ],
)
def test_the_allowed_values_are_named(asked, field, sentence):
    assert refusals(WAN, **GOOD | asked) == [(field, f"wan takes {sentence}")]


def test_what_is_served_is_not_refused():
    assert refusals(WAN, **GOOD, prompt="waves") == []
    assert refusals(WAN, **GOOD | {"frames": 17, "size": 1280}, motion=1.0, loop=False) == []


def test_a_model_without_prompts_takes_an_empty_one():
    mute = Profile(**vars(WAN) | {"honours": frozenset()})
    assert refusals(mute, **GOOD, prompt=" \n") == []
    assert refusals(mute, **GOOD, prompt="waves") == [("prompt", "wan takes no prompt.")]


def test_a_model_of_one_frame_rate_and_length_says_so():
    strict = Profile(**vars(WAN) | {"min_frames": 81})
    assert refusals(strict, **GOOD | {"frames": 9}) == [("frames", "wan takes 81.")]


def test_the_shipped_model_takes_every_size_and_option():
    small = PROFILES["motion-small"]
    for size in (small.min_size, 333, small.max_size):
        assert refusals(small, frames=9, fps=24, size=size, prompt="x", motion=2.0, loop=True) == []
    wrong = refusals(small, frames=97, fps=7, size=2000)
    assert [field for field, _ in wrong] == ["frames", "fps", "size"]
    assert wrong[0][1] == "motion-small takes 8 to 96."


@pytest.mark.parametrize(("wish", "frames"), [(64, 65), (62, 61), (0, 17), (999, 81), (80, 81)])
def test_the_nearest_number_of_frames(wish, frames):
    assert WAN.nearest_frames(wish) == frames
    assert WAN.takes_frames(frames)
