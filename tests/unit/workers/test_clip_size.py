"""Sizes of clips: even, never stretched, the same for the API and for the worker."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from app.domain.job.clip_size import clip_size, shown_box
from tests.support.layered import affine_clip, still
from workers.engines.motion.engine import load_picture
from workers.media.encode import encode_mp4
from workers.pipeline.composite import Composite
from workers.pipeline.picture import SHARPEST

SHAPES = [(1024, 768), (768, 1024), (1024, 682), (1024, 128), (128, 1024), (1000, 998), (66, 64)]


def jpeg(width, height, detail=False):
    y, x = np.mgrid[:height, :width]
    pattern = (np.sin(x * 1.3) + np.sin(y * 1.1)) * 60 if detail else (x + y) * 0.1
    out = io.BytesIO()
    Image.fromarray(np.uint8(np.clip(128 + pattern, 0, 255))).convert("RGB").save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize("size", [64, 65, 127, 512, 513, 1024])
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_a_clip_is_even_within_its_size_and_not_stretched(width, height, size):
    clip = clip_size(width, height, size)
    assert clip.width % 2 == clip.height % 2 == 0
    assert max(clip) <= size
    assert max(clip) >= min(size, max(width, height)) - 1
    left, top, right, bottom = shown_box(width, height, clip)
    across, down = (right - left) / clip.width, (bottom - top) / clip.height
    assert across == pytest.approx(down, rel=0.001), "stretched"
    # At most one pixel of the clip is lost at each edge.
    assert max(left, width - right) <= across and max(top, height - bottom) <= down


def test_an_odd_picture_that_is_not_shrunk_gets_one_more_pixel():
    assert clip_size(63, 41, 64) == (64, 42)


@pytest.mark.parametrize("size", [64, 65, 96])
@pytest.mark.parametrize(("width", "height"), [(120, 80), (80, 128), (128, 16), (66, 64)])
def test_the_mp4_has_the_size_that_the_api_tells(width, height, size):
    picture = load_picture(jpeg(width, height), size)
    frames = Composite(picture, still(), 8, yuv=True)
    with av.open(io.BytesIO(encode_mp4(frames, 24))) as file:
        context = file.streams.video[0].codec_context
        assert (context.width, context.height) == clip_size(width, height, size)


def test_a_zoomed_frame_has_the_detail_of_the_stored_picture():
    """Stripes too fine for the clip: visible once a zoom in has made them larger."""
    stored = jpeg(512, 512, detail=True)
    picture = load_picture(stored, 256)
    motion = affine_clip(growth=-0.3)
    sharp = list(Composite(picture, motion, 8))
    soft = list(Composite(picture.pixels, motion, 8))
    assert np.array_equal(sharp[0], picture.pixels) and np.array_equal(sharp[0], soft[0])
    detail = [np.abs(np.diff(last.astype(int), axis=1)).mean() for last in (sharp[-1], soft[-1])]
    assert detail[0] > 1.3 * detail[1]


def test_no_more_pixels_are_kept_than_a_zoom_shows():
    picture = load_picture(jpeg(1024, 768), 512)
    assert picture.pixels.shape == (384, 512, 3)
    assert picture.magnified(1.0) is picture.pixels
    assert picture.magnified(1.125).shape == (432, 576, 3)
    assert picture.magnified(9).shape[1] == round(512 * SHARPEST / 2) * 2
    whole = load_picture(jpeg(300, 200), 512)
    assert whole.magnified(2) is whole.pixels
