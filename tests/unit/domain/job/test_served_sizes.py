"""Which size suits a picture, and what of the picture it shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.job.clip_size import ClipSize
from app.domain.job.served_sizes import cropped_box, longest_sides, nearest_size, parse_size

WIDE, HIGH, SQUARE = (parse_size(text) for text in ("832x480", "480x832", "832x832"))
BIG = parse_size("1280x720")
SIZES = (WIDE, HIGH, SQUARE, BIG)
side = st.integers(1, 8000)


@pytest.mark.parametrize("text", ["832", "832X480", "832x", "x480", "831x480", "8x8", "9000x480"])
def test_a_size_is_two_even_sides(text):
    with pytest.raises(ValueError, match=r"832x480|two even sides"):
        parse_size(text)


@pytest.mark.parametrize(
    ("width", "height", "longest", "chosen"),
    [
        (1000, 600, 832, WIDE),
        (600, 1000, 832, HIGH),
        (1000, 900, 832, SQUARE),
        (900, 1000, 832, SQUARE),
        (1000, 900, 1280, BIG),  # only one has that longest side
    ],
)
def test_the_nearest_shape_is_chosen(width, height, longest, chosen):
    assert nearest_size(width, height, longest, SIZES) == chosen


def test_a_request_may_ask_for_the_longest_sides():
    assert longest_sides(SIZES) == [832, 1280]
    with pytest.raises(ValueError):
        nearest_size(1, 1, 1000, SIZES)


@given(side, side)
def test_high_pictures_get_high_clips(width, height):
    chosen = nearest_size(width, height, 832, (WIDE, HIGH))
    if width != height:
        assert chosen == (WIDE if width > height else HIGH)


@given(side, side, st.sampled_from(SIZES))
def test_a_crop_has_the_clips_shape_and_lies_in_the_middle(width, height, size):
    left, top, right, bottom = cropped_box(width, height, size)
    wide, high = right - left, bottom - top
    assert wide * size.height == pytest.approx(high * size.width)
    assert left == pytest.approx(width - right, abs=1e-6) and left >= -1e-6
    assert top == pytest.approx(height - bottom, abs=1e-6) and top >= -1e-6
    assert wide == pytest.approx(width) or high == pytest.approx(height)


def test_a_picture_of_the_clips_shape_is_whole():
    assert cropped_box(1664, 960, WIDE) == (0, 0, 1664, 960)
    assert cropped_box(832, 832, WIDE) == (0, 176, 832, 656)
    assert ClipSize(832, 480) == WIDE
