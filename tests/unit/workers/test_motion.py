"""The warp decoder: exact at rest, true to simple motions, clean at the borders."""

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace
from skimage import data

from workers.pipeline.borders import keep_inside
from workers.pipeline.grid import cubic_weights, extent, grid_weights
from workers.pipeline.motion import Warp, picture_in_square
from workers.pipeline.yuv import to_yuv420


def place(cells=16):
    line = (torch.arange(cells) + 0.5) / cells * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y])


def clip(end):
    """A motion that grows evenly to `end` (2, 16, 16) over 16 fields."""
    time = torch.arange(1, 17) / 16
    return end[:, None] * time[:, None, None]


def smooth_picture(height, width):
    y, x = np.meshgrid(np.linspace(0, 3, height), np.linspace(0, 4, width), indexing="ij")
    waves = [np.sin(x + k) * np.cos(y * 1.3 - k) for k in range(3)]
    return (np.stack(waves, -1) * 100 + 128).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (37, 91), (90, 41), (1, 1), (3, 64)])
def test_the_first_frame_is_the_picture_bit_for_bit(size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    frames = list(Warp(picture, clip(-0.3 * place()), 8))
    assert len(frames) == 8
    assert np.array_equal(frames[0], picture)
    assert all(f.shape == picture.shape and f.dtype == np.uint8 for f in frames)


def test_no_motion_changes_nothing():
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for frame in Warp(picture, torch.zeros(2, 16, 16, 16), 8):
        assert np.abs(frame.astype(int) - picture).max() <= 1


def test_a_pan_shifts_by_the_right_number_of_pixels():
    """0.25 half sides of 128 px are 16 px; the comparison leaves out the border zoom."""
    motion = torch.zeros(2, 16, 16)
    motion[0] = 0.25
    picture = smooth_picture(128, 128)
    warp = Warp(picture, clip(motion), 9)
    warp.moves[-1] = motion  # unchanged, without the zoom that hides the border
    last = list(warp)[8].astype(int)
    assert np.abs(last[8:-8, 8:-24] - picture[8:-8, 24:-8].astype(int)).max() <= 2


def test_one_unit_is_as_long_along_both_sides_of_a_wide_picture():
    """The same displacement moves a 2:1 picture by the same number of pixels down and right."""
    picture = smooth_picture(64, 128)
    motion = torch.full((2, 16, 16), 0.125)  # 8 px of a longest side of 128
    warp = Warp(picture, clip(motion), 8)
    warp.moves[-1] = motion
    last = list(warp)[7].astype(int)
    assert np.abs(last[4:-12, 4:-12] - picture[12:-4, 12:-4].astype(int)).max() <= 2


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (96, 48)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_pan_never_shows_what_lies_beyond_the_border(size, sign):
    end = torch.zeros(2, 16, 16)
    end[0] = sign * 0.3
    knots = torch.cat([torch.zeros(2, 1, 16, 16), clip(end)], 1)
    kept = keep_inside(knots, *size)
    ex, ey = extent(*size)
    edge = torch.linspace(-1, 1, 33)
    wy, wx = grid_weights(edge * ey, 16), grid_weights(edge * ex, 16)
    moved = torch.einsum("yi,ckij,xj->ckyx", wy, kept, wx)
    assert (moved[0] + edge * ex).abs().max() <= ex + 1e-3
    assert (moved[1] + edge[:, None] * ey).abs().max() <= ey + 1e-3
    assert (kept[:, 0] == 0).all()


def test_a_zoom_out_is_not_undone_and_a_zoom_in_is_left_alone():
    for factor in (0.2, -0.2):
        knots = torch.cat([torch.zeros(2, 1, 16, 16), clip(factor * place())], 1)
        assert torch.allclose(keep_inside(knots, 64, 64), knots, atol=1e-5)


@pytest.mark.parametrize("frames", [8, 48, 96])
def test_interpolation_in_time_is_smooth_and_starts_at_rest(frames):
    """No frame-to-frame jump of a sine motion is much above its steepest slope."""
    knots = torch.sin(torch.linspace(0, 2 * np.pi, 17))
    curve = cubic_weights(torch.linspace(0, 16, frames), 17) @ knots
    true = torch.sin(torch.linspace(0, 2 * np.pi, frames))
    assert curve[0] == 0
    assert (curve - true).abs().max() < 0.01


def test_weights_reproduce_straight_lines_even_beyond_the_cells():
    points = torch.linspace(-1.2, 1.2, 41)
    centres = (torch.arange(16) + 0.5) / 16 * 2 - 1
    weights = grid_weights(points, 16)
    assert torch.allclose(weights.sum(1), torch.ones(41), atol=1e-5)
    assert torch.allclose(weights @ centres, points, atol=1e-5)


@pytest.mark.parametrize("size", [(512, 512), (20, 700), (700, 20), (31, 33), (1, 1)])
def test_a_picture_of_any_shape_fills_the_square(size):
    picture = np.full((*size, 3), 200, np.uint8)
    seen = picture_in_square(picture, 32)
    assert seen.shape == (3, 32, 32)
    assert torch.allclose(seen, torch.full_like(seen, 200 / 127.5 - 1), atol=1e-5)


def test_read_only_pictures_are_fine():
    picture = smooth_picture(40, 40)
    picture.setflags(write=False)
    frames = list(Warp(picture, clip(-0.1 * place()), 8))
    frames[0][0, 0] = 0  # each frame belongs to the caller
    assert picture_in_square(picture, 32).shape == (3, 32, 32)


@pytest.fixture
def photo():
    return np.ascontiguousarray(data.coffee()[:301:3, ::3])  # (101, 200, 3)


def planes(frame, height, width):
    """The three planes of a frame as YUV 4:2:0."""
    y, u, v = np.split(frame.reshape(-1), [height * width, height * width * 5 // 4])
    half = (height // 2, width // 2)
    return y.reshape(height, width), u.reshape(half), v.reshape(half)


def test_yuv_matches_the_encoders_own_conversion(photo):
    picture = photo[:100]
    ours = next(iter(Warp(picture, torch.zeros(2, 8, 16, 16), 8, yuv=True)))
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    theirs = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709).to_ndarray()
    assert ours.shape == theirs.shape == (150, 200) and ours.dtype == np.uint8
    for a, b in zip(planes(ours, 100, 200), planes(theirs, 100, 200), strict=True):
        # It sites chroma a quarter of a pixel elsewhere, and rounds in integers.
        assert np.abs(a.astype(float) - b).mean() < 1.0
    assert np.abs(planes(ours, 100, 200)[0].astype(float) - planes(theirs, 100, 200)[0]).max() <= 2


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
def test_yuv_of_pure_colours_follows_the_standard(colour):
    """BT.709's table of 100 % colour bars, 8 bits."""
    expected = {
        (255, 0, 0): (63, 102, 240),
        (0, 255, 0): (173, 42, 26),
        (0, 0, 255): (32, 240, 118),
        (255, 255, 255): (235, 128, 128),
    }[colour]
    luma, chroma = to_yuv420(np.full((4, 6, 3), colour, np.uint8))
    got = [luma[0, 1, 1].item(), *chroma[:, 1, 1].tolist()]
    assert got == pytest.approx(expected, abs=1)


def test_a_yuv_frame_moves_as_an_rgb_frame_does(photo):
    picture = photo[:100]
    motion = clip(-0.2 * place())
    rgb, yuv = (list(Warp(picture, motion, 8, yuv=yuv)) for yuv in (False, True))
    for a, b in zip(rgb, yuv, strict=True):
        luma, chroma = to_yuv420(np.ascontiguousarray(a))
        y, u, v = planes(b, 100, 200)
        assert np.abs(luma[0].numpy() - y).mean() < 1
        assert np.abs(chroma.numpy() - np.stack([u, v])).mean() < 1


def test_an_odd_side_is_padded_by_one(photo):
    [first, *_] = Warp(photo[:, :199], torch.zeros(2, 8, 16, 16), 8, yuv=True)
    assert first.shape == (153, 200)
    y, _, _ = planes(first, 102, 200)
    assert np.array_equal(y[-1], y[-2]) and np.array_equal(y[:, -1], y[:, -2])


def test_what_lies_beyond_the_border_is_mirrored():
    """The result equals the sampler's own mirroring, which is slower."""
    picture = smooth_picture(50, 96)
    motion = 0.4 * torch.stack(torch.meshgrid(*2 * [torch.linspace(-1, 1, 16)], indexing="xy"))
    warp = Warp(picture, clip(motion), 12)
    height, width = picture.shape[:2]
    layer = warp.layers[0]
    u = layer.rows @ warp.moves[11] @ layer.columns.T
    half = torch.tensor([1, height / width])[:, None, None]
    at = (u + torch.stack(torch.meshgrid(layer.xs, layer.ys, indexing="xy"))) / half
    assert at.abs().max() > 1.2
    expected = torch.nn.functional.grid_sample(
        torch.tensor(picture).permute(2, 0, 1)[None].float(),
        at.permute(1, 2, 0)[None],
        mode="bicubic",
        padding_mode="reflection",
        align_corners=False,
    )
    got = list(warp)[11].transpose(2, 0, 1).astype(int)
    assert np.abs(got - expected[0].round().clamp(0, 255).numpy()).max() <= 1
