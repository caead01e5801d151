"""Beyond its borders a picture goes on: as it is there, in whole pieces, never mirrored."""

import numpy as np
import pytest

from tests.support.layered import textured
from workers.pipeline.beyond import Margins, widened
from workers.pipeline.plates import Plates, Reach

LEFT = Margins(24, 0, 0, 0)


def grey(values):
    return np.repeat(values[..., None], 3, 2).astype(np.uint8)


def test_the_picture_itself_stays_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    wide = widened(picture, Margins(10, 4, 7, 2))
    assert wide.shape == (66, 107, 3)
    assert np.array_equal(wide[4:64, 10:100], picture)
    assert np.array_equal(widened(picture, Margins(0, 0, 0, 0)), picture)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (16, 16), (20, 200), (300, 9), (2, 64)])
def test_tiny_and_narrow_pictures_and_wide_margins(size):
    picture = np.random.default_rng(0).integers(100, 140, (*size, 3), dtype=np.uint8)
    for margins in (Margins(3, 0, 0, 5), Margins(40, 40, 40, 40)):
        wide = widened(picture, margins)
        assert wide.shape[:2] == (
            size[0] + margins.top + margins.bottom,
            size[1] + margins.left + margins.right,
        )
        assert wide.min() >= 100 and wide.max() < 140


def test_equal_arguments_give_equal_pixels():
    picture = textured(90, 120)
    assert np.array_equal(widened(picture, LEFT), widened(picture, LEFT))


@pytest.mark.parametrize("side", range(4))
def test_diagonal_stripes_go_on_in_their_direction(side):
    """Their mirror image would turn back."""
    y, x = np.mgrid[:192, :192]
    whole = grey(np.where((x + 2 * y) // 24 % 2, 200, 60))
    margins = Margins(*(24 * (number == side) for number in range(4)))
    left, top, right, bottom = margins
    inside = whole[top : 192 - bottom, left : 192 - right]
    wide = widened(inside, margins)
    beyond = np.ones((192, 192), bool)
    beyond[top : 192 - bottom, left : 192 - right] = False
    assert (np.abs(wide - whole)[beyond] < 60).mean() > 0.9


def test_texture_is_as_sharp_beyond_the_border_as_inside():
    picture = textured(256, 384)
    wide = widened(picture, LEFT)
    beyond, inside = (np.abs(np.diff(part[..., 0])).mean() for part in (wide[:, :24], wide[:, 24:]))
    assert beyond > 0.9 * inside


def test_the_old_border_does_not_show():
    picture = textured(256, 384)
    picture = (picture * np.linspace(0.4, 1.2, 256)[:, None, None]).clip(0, 255).astype(np.uint8)
    wide = widened(picture, LEFT)[..., 0]
    steps = np.abs(np.diff(wide, axis=1)).mean(0)
    assert steps[23] < 2 * np.median(steps[30:])
    inside, beyond = (wide[:, part].reshape(16, -1).mean(1) for part in (slice(24, 40), slice(24)))
    assert np.abs(inside - beyond).mean() < 8


def test_nothing_new_comes_into_view():
    """A tower in the middle stays there, though the sky around it is like that at the border."""
    sky = textured(192, 256)[..., 0] // 4 + 90
    sky[:, 120:150] = 20
    assert widened(grey(sky), LEFT)[:, :24].min() > 60


def test_a_colour_between_others_is_continued_row_by_row():
    """Nowhere else is it: the nearest is tinted."""
    y = np.arange(192)[:, None]
    ground = textured(192, 256)[..., 0] // 8 + 100 + 30 * np.sin(y / 20)
    ground[:, 60:] += 15
    wide = widened(grey(ground), LEFT)[..., 0]
    beyond, inside = wide[:, 12:24].mean(1), wide[:, 24:36].mean(1)
    assert np.abs(beyond - inside).mean() < 5


def test_a_subject_comes_into_view_where_it_is_cut_off_and_only_there():
    picture = textured(192, 256)
    alpha = np.zeros((192, 256, 1), np.uint8)
    alpha[100:, :80], alpha[20:80, 120:200] = 128, 128
    picture[alpha[..., 0] > 0] = (220, 40, 40)
    wide = widened(np.dstack([picture, alpha]), LEFT)[:, :24]
    assert wide[:90, :, 3].max() < 10
    assert wide[110:, :, 3].min() > 118
    assert wide[110:, :, 0].mean() > 200


def test_plates_continue_a_subject_that_slants_beyond_the_border():
    """With its outline repeated row by row, it would end in a corner there."""
    y, x = np.mgrid[:192, :192]
    body = y > 60 + x / 2
    picture = np.where(body[..., None], (200, 50, 50), textured(192, 192)).astype(np.uint8)
    reach = Reach.of(0.25, 0, 0, 0)
    plates = Plates.of(picture, body.astype(np.float32), reach, reach, yuv=False)
    [subject] = plates.subject
    alpha = subject.samples[..., 3]
    tops = (alpha > 128).argmax(0)[: subject.left]
    assert tops[-1] - tops[2] == pytest.approx((subject.left - 3) / 2, abs=5)
