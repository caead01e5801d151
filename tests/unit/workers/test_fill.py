"""Holes are filled with what fits: sharp texture, no mirror image, nothing of what was cut out."""

import numpy as np
import pytest

from tests.support.layered import textured
from workers.pipeline.fill import fill


def roughness(grey):
    return np.abs(np.diff(grey.astype(float), axis=1)).mean()


def test_what_is_known_stays_as_it_is():
    picture = textured(60, 90)
    hole = np.zeros((60, 90), bool)
    hole[20:40, 30:60] = True
    filled = fill(picture, hole)
    assert np.array_equal(filled[~hole], picture[~hole])
    assert fill(picture, np.zeros_like(hole)) is picture


def test_texture_is_as_sharp_in_the_hole_as_around_it():
    picture = textured(256, 384)
    hole = np.zeros((256, 384), bool)
    hole[:, 340:] = True
    broken = np.where(hole[..., None], 0, picture).astype(np.uint8)
    filled = fill(broken, hole)
    assert roughness(filled[:, 345:, 0]) > 0.4 * roughness(picture[:, 345:, 0])
    assert abs(filled[hole].mean() - 128) < 12, "nothing of the black"


def test_stripes_go_on():
    y = np.arange(160)[:, None]
    picture = np.repeat(np.where(y // 8 % 2, 200, 60)[..., None], 3, 2)
    picture = np.repeat(picture, 240, 1).astype(np.uint8)
    hole = np.zeros((160, 240), bool)
    hole[:, :30] = True
    hole[60:100, 120:150] = True
    filled = fill(np.where(hole[..., None], 128, picture).astype(np.uint8), hole)
    assert (np.abs(filled.astype(int) - picture)[hole] < 40).mean() > 0.95


def test_an_edge_is_continued_not_mirrored():
    """A diagonal edge goes on in its direction; a mirror image would turn back."""
    y, x = np.mgrid[:192, :192]
    whole = np.where(x + y < 190, 40, 210).astype(np.uint8)
    picture = np.repeat(whole[..., None], 3, 2)
    hole = np.zeros((192, 192), bool)
    hole[:, :24] = True
    filled = fill(np.where(hole[..., None], 128, picture).astype(np.uint8), hole)
    right = np.abs(filled[..., 0].astype(int) - whole) < 60
    assert right[hole].mean() > 0.9
    mirrored = picture[:, 24:48][:, ::-1, 0]
    assert (np.abs(filled[:, :24, 0].astype(int) - mirrored) > 60).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (16, 16), (20, 200), (300, 9)])
def test_tiny_and_narrow_pictures_are_filled_too(size):
    picture = np.random.default_rng(0).integers(100, 140, (*size, 3), dtype=np.uint8)
    for hole in (np.ones(size, bool), np.arange(size[1])[None] + np.zeros(size) < size[1] / 2):
        filled = fill(picture, hole)
        assert filled.shape == picture.shape and filled.dtype == np.uint8
        assert 80 < filled.mean() < 160


def test_unused_parts_lend_nothing():
    picture = textured(128, 128)
    hole, unused = np.zeros((128, 128), bool), np.zeros((128, 128), bool)
    hole[30:90, 30:90], unused[45:75, 45:75] = True, True
    hole &= ~unused
    red = picture.copy()
    red[30:90, 30:90] = (255, 0, 0)
    filled = fill(red, hole, unused)[hole].astype(int)
    assert np.abs(filled[:, 0] - filled[:, 1]).max() < 20


def test_equal_arguments_give_equal_pixels():
    picture = textured(90, 120)
    hole = np.zeros((90, 120), bool)
    hole[:, 100:] = True
    assert np.array_equal(fill(picture, hole), fill(picture, hole))


def test_a_blurred_rim_does_not_go_on_as_a_halo_behind_a_subject():
    y, x = np.mgrid[:160, :200]
    sky = 120 + 0.2 * y
    away = np.hypot(y - 80, x - 100)
    # A bright disc whose edge is blurred: a little of it lies beyond the hole.
    share = 1 / (1 + np.exp((away - 40) / 3))
    photo = (sky * (1 - share) + 255 * share).round().astype(np.uint8)
    hole = away < 48
    filled = fill(np.repeat(photo[..., None], 3, 2), hole)[..., 0]
    beside = photo[(away >= 48) & (away < 49)] - sky[(away >= 48) & (away < 49)]
    assert np.abs(filled[hole] - sky[hole]).max() < 1.5 * beside.max()
