"""Chroma, through a real encoder and a decoder that knows where H.264 puts it."""

import io

import av
import numpy as np
import pytest
from skimage import data

from tests.support.layered import affine_clip
from tests.support.layered import still as still_motion
from workers.media.encode import encode_mp4
from workers.pipeline.composite import Composite
from workers.pipeline.yuv import LEFT, to_yuv420


def decoded(mp4):
    """Frames as a careful player shows them: RGB, chroma interpolated from its left siting."""
    frames = []
    with av.open(io.BytesIO(mp4)) as container:
        graph = av.filter.Graph()
        source = graph.add_buffer(template=container.streams.video[0])
        where = "in_h_chr_pos=0:in_v_chr_pos=128:in_color_matrix=bt709:in_range=tv"
        scale = graph.add("scale", f"iw:ih:{where}:flags=bicubic+accurate_rnd+full_chroma_int")
        form, sink = graph.add("format", "rgb24"), graph.add("buffersink")
        source.link_to(scale), scale.link_to(form), form.link_to(sink)
        graph.configure()
        for frame in container.decode(video=0):
            source.push(frame)
            frames.append(graph.pull().to_ndarray())
    return frames


def psnr(a, b):
    """Of R and B, dB."""
    error = np.square(a.astype(float) - b).mean((0, 1))[[0, 2]]
    return 10 * np.log10(255**2 / error)


def centred(picture):
    """YUV 4:2:0 with chroma in the middle of its four pixels, as JPEG has it."""
    luma, _ = to_yuv420(picture)
    wide = np.repeat(picture, 2, 1)[:, 1:]  # the pixel to the left counts twice: a shift of half
    wide = np.concatenate([wide, wide[:, -1:]], 1)
    _, chroma = to_yuv420(np.ascontiguousarray(wide))
    parts = [luma, (chroma[..., ::2] + chroma[..., 1::2]).div(2).round()]
    return np.concatenate([p.byte().numpy().reshape(-1) for p in parts]).reshape(
        -1, picture.shape[1]
    )


def still(picture):
    return list(Composite(picture, still_motion(), 8, yuv=True))


def discs():
    """Red and blue discs on grey: the hardest for chroma."""
    y, x = np.mgrid[:128, :192]
    picture = np.full((128, 192, 3), 128, np.uint8)
    for k, colour in enumerate([(220, 20, 20), (20, 20, 220)] * 3):
        inside = np.hypot(x - 16 - 32 * k, y - 64) < 11
        picture[inside] = colour
    return picture


@pytest.mark.parametrize(
    ("picture", "gain_db"), [(data.astronaut(), (0.4, 0.2)), (discs(), (1.0, 1.0))]
)
def test_left_siting_gains_in_red_and_blue(picture, gain_db):
    picture = np.ascontiguousarray(picture)
    ours, middle = (
        psnr(decoded(encode_mp4(frames, 24))[0], picture)
        for frames in (still(picture), [centred(picture)] * 8)
    )
    assert ((ours - middle) > gain_db).all(), ours - middle


def test_chroma_moves_along_with_luma():
    """A pan by whole pixels: frames keep the colours of the picture, shifted."""
    picture = discs()
    motion = affine_clip(x=32 / 96)
    last = decoded(encode_mp4(Composite(picture, motion, 9, yuv=True), 24))[8]
    at_rest = decoded(encode_mp4(still(picture), 24))[0]
    moved, wanted = psnr(last[:, :160], picture[:, 32:]), psnr(at_rest, picture)
    assert (moved > wanted - 2).all(), (moved, wanted)


def test_a_chroma_sample_lies_on_its_left_column():
    picture = np.zeros((2, 16, 3), np.uint8)
    picture[..., 0] = np.arange(16) * 16  # a ramp: what lies where can be read from its value
    _, chroma = to_yuv420(picture)
    per_pixel = (chroma[1, 0, -2] - chroma[1, 0, 1]) / 2 / (len(chroma[1, 0]) - 3)
    full = to_yuv420(np.repeat(np.repeat(picture, 2, 0), 2, 1))[1][1, 0]
    assert LEFT == -0.25
    # Chroma 3 lies on column 6; doubled, columns 12 and 13 are column 6 and chroma 6 lies on 12.
    assert chroma[1, 0, 3] == pytest.approx(full[6].item() + per_pixel.item() / 4, abs=1.5)
