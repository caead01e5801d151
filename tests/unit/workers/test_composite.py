"""Frames from layers: exact at rest, straight under a camera, sharp where things overlap."""

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace
from PIL import Image
from skimage import data

from tests.support.layered import affine_clip, disc, still, textured, two_layers
from workers.pipeline.composite import Composite
from workers.pipeline.grid import cubic_weights, grid_weights
from workers.pipeline.layers import LayeredMotion
from workers.pipeline.picture import matte_in_square, picture_in_square
from workers.pipeline.yuv import to_yuv420


def smooth_picture(height, width):
    y, x = np.meshgrid(np.linspace(0, 3, height), np.linspace(0, 4, width), indexing="ij")
    waves = [np.sin(x + k) * np.cos(y * 1.3 - k) for k in range(3)]
    return (np.stack(waves, -1) * 100 + 128).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (37, 91), (90, 41), (1, 1), (3, 64), (16, 128)])
@pytest.mark.parametrize("yuv", [False, True])
def test_any_shape_gives_whole_frames_and_the_first_is_the_picture(size, yuv):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    motion = affine_clip(growth=0.3, turn=0.1, x=-0.2)
    frames = list(Composite(picture, motion, 8, yuv=yuv))
    assert len(frames) == 8
    even = [side + side % 2 * yuv for side in size]
    shape = (even[0] * 3 // 2, even[1]) if yuv else (*size, 3)
    assert all(f.shape == shape and f.dtype == np.uint8 for f in frames)
    assert np.array_equal(frames[0], picture) or yuv


def test_no_motion_changes_nothing_with_and_without_a_subject():
    picture, matte = two_layers()
    for given in (None, matte):
        for frame in Composite(picture, still(), 8, matte=given):
            assert np.abs(frame.astype(int) - picture).max() <= 3


def test_a_pan_shifts_by_the_right_number_of_pixels():
    """0.25 half sides of 128 px are 16 px."""
    picture = smooth_picture(128, 128)
    last = list(Composite(picture, affine_clip(x=0.25), 9))[8].astype(int)
    assert np.abs(last[:, :-16] - picture[:, 16:].astype(int)).max() <= 2


def test_one_unit_is_as_long_along_both_sides_of_a_wide_picture():
    picture = smooth_picture(76, 128)
    last = list(Composite(picture, affine_clip(x=0.125, y=0.125), 9))[8].astype(int)
    assert np.abs(last[:-8, :-8] - picture[8:, 8:].astype(int)).max() <= 2


def test_a_background_at_rest_keeps_every_value():
    """The planes that frames are sampled from are magnified, and must not soften anything."""
    picture, matte = two_layers(128)
    last = list(Composite(picture, affine_clip(body={"x": 0.1}), 9, matte=matte))[8]
    assert np.array_equal(last[:20], picture[:20])
    assert not np.array_equal(last, picture), "the subject has moved"


@pytest.mark.parametrize("bends", [False, True])
def test_sampling_is_bicubic_to_within_a_few_levels(bends):
    """A camera that zooms and pans, against OpenCV's bicubic samples at the same places."""
    picture = textured(128, 128, seed=1)
    motion = affine_clip(growth=-0.2, x=0.03)
    if bends:  # by nearly nothing, which takes the other way of sampling
        motion = replace(motion, soft=torch.full_like(motion.soft, 1e-7))
    clip = Composite(picture, motion, 9)
    last = list(clip)[8].astype(float)
    to_half = np.array([[1 / 64, 0, 1 / 128 - 1], [0, 1 / 64, 1 / 128 - 1], [0, 0, 1]])
    back = np.vstack([clip.camera[-1], [0, 0, 1]])
    matrix = (np.linalg.inv(to_half) @ back @ to_half)[:2]
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    wanted = cv2.warpAffine(picture, matrix, (128, 128), flags=flags)
    error = np.abs(last - wanted)[8:-8, 8:-8]
    assert np.sqrt(np.square(error).mean()) < 1.5
    assert error.max() < 16


def lines_of(frame, positions):
    """Where a dark line crosses each row near a position: columns by centre of darkness."""
    dark = 255.0 - frame[..., 0]
    found = []
    for row in range(30, frame.shape[0] - 30, 4):
        near = slice(int(positions(row)) - 9, int(positions(row)) + 10)
        weight = np.maximum(dark[row, near] - 40, 0)
        found.append((row, near.start + (weight * np.arange(19)).sum() / weight.sum()))
    return np.array(found)


@pytest.mark.parametrize(
    "camera",
    [{"x": 0.2}, {"growth": -0.18}, {"turn": 0.14}, {"growth": 0.16, "turn": -0.1}],
    ids=["pan", "zoom in", "turn", "zoom out and turn"],
)
def test_straight_lines_stay_straight_under_a_camera(camera):
    picture = np.full((512, 512, 3), 230, np.uint8)
    picture[:, 254:258] = 20
    motion = affine_clip(**camera)
    last = list(Composite(picture, motion, 9))[8]
    growth, turn, x = (camera.get(name, 0) for name in ("growth", "turn", "x"))

    def expected(row):
        y = (row + 0.5) / 256 - 1
        # Where (1 + growth) R(turn) (u, y) + (x, 0) has its first coordinate at 0.
        u = (np.sin(turn) * (1 + growth) * y - x) / ((1 + growth) * np.cos(turn))
        return (u + 1) * 256 - 0.5

    points = lines_of(last, expected)
    fit = np.polyval(np.polyfit(*points.T, 1), points[:, 0])
    assert np.sqrt(np.square(points[:, 1] - fit).mean()) <= 0.3
    assert np.abs(points[:, 1] - [expected(row) for row in points[:, 0]]).max() < 1


def test_the_background_does_not_move_with_the_subject():
    """Not within the 24 px of 512 around it either, apart from what it covers and uncovers."""
    picture, matte = two_layers(512)
    motion = affine_clip(body={"x": 0.06})
    frames = list(Composite(picture, motion, 9, matte=matte))
    y, x = np.mgrid[:512, :512]
    away = np.hypot(x - 256, y - 256) - 90
    moved = 0.06 * 256
    near = (np.hypot(x - 256 + moved, y - 256) - 90 > 8) & (away > 8)
    for frame in frames[1:]:
        assert np.abs(frame.astype(int) - picture)[near].max() <= 3
    inside = np.hypot(x - 256 + moved, y - 256) < 80
    wanted = np.roll(picture, -round(moved), 1)
    assert np.abs(frames[8].astype(int) - wanted)[inside].mean() < 12


def test_what_the_subject_uncovers_is_background_without_a_halo():
    """A red disc on grey noise: where it was, nothing red is left."""
    picture, matte = two_layers(256)
    last = list(Composite(picture, affine_clip(body={"x": 0.5}), 9, matte=matte))[8].astype(int)
    y, x = np.mgrid[:256, :256]
    uncovered = (np.hypot(x - 128, y - 128) < 48) & (np.hypot(x - 64, y - 128) > 50)
    redness = last[..., 0] - last[..., 1]
    assert np.percentile(redness[uncovered], 99) < 25
    ring = (np.abs(np.hypot(x - 64, y - 128) - 50) < 3) & (x > 10)
    assert last[ring].min() > 20, "no dark halo around the disc"


def test_occlusion_edges_stay_sharp():
    """From background to subject within as many pixels as in the picture itself."""
    picture, matte = two_layers(256, edge=1.0, noise=0)
    last = list(Composite(picture, affine_clip(body={"x": 0.25}), 9, matte=matte))[8].astype(int)

    def width_of_edge(row):
        redness = (row[..., 0] - row[..., 1]).astype(float)
        low, high = np.percentile(redness, 10), redness.max()
        return ((redness > low + 0.15 * (high - low)) & (redness < low + 0.85 * (high - low))).sum()

    before = width_of_edge(picture[128].astype(int))
    assert width_of_edge(last[128]) <= before + 3


def test_nothing_is_mirrored_beyond_the_border():
    """A dark post at the left edge: looking further left must not show a second one."""
    picture = textured(128, 192, seed=3)
    picture[:, 10:16] = (10, 10, 10)
    first_edge = 13
    last = list(Composite(picture, affine_clip(x=-0.3), 9))[8].astype(int)
    shift = round(0.3 * 96)
    dark = (last.max(2) < 60).mean(0)
    assert dark[first_edge + shift] > 0.9, "the post has moved into the picture"
    assert dark[: shift - first_edge + 8].max() < 0.5, "its mirror image"


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_the_motion_of_a_loop_has_no_jump(strength):
    motion = affine_clip(x=0.1, body={"turn": 0.2}).scaled(strength)
    clip = Composite(textured(64, 64), motion, 24, matte=disc(64, 20), loop=True)
    for path in (clip.camera, clip.body):
        steps = np.diff(np.concatenate([path, path[:1]]), axis=0)
        speeds = np.abs(np.diff(np.concatenate([steps, steps[:1]]), axis=0)).max((1, 2))
        assert speeds[-1] <= np.percentile(speeds, 95) * 1.5


def test_the_same_arguments_give_the_same_bytes():
    picture, matte = two_layers(128)
    motion = affine_clip(growth=0.1, body={"x": 0.2})
    one, two = (list(Composite(picture, motion, 8, matte=matte, yuv=True)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_soft_motion_moves_only_where_it_is():
    picture = textured(128, 128)
    soft = torch.zeros(2, 2, 8, 16, 16)
    soft[0, 0, :, 10:14] = 0.05 * torch.arange(1, 9)[:, None, None] / 8
    motion = LayeredMotion(*[torch.zeros(8, 2, 3)] * 2, soft)
    last = list(Composite(picture, motion, 9))[8].astype(int)
    change = np.abs(last - picture).mean((1, 2))
    assert change[:60].max() <= 1
    assert change[90:100].min() > 2


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


@pytest.mark.parametrize("size", [(512, 512), (256, 512), (512, 128)])
def test_a_matte_lies_where_the_picture_does(size):
    covered = matte_in_square(np.ones((320, 320), np.float32), *size, 16)
    assert covered.shape == (16, 16)
    assert covered.mean().item() == pytest.approx(min(size) / max(size), abs=0.01)
    assert covered[7:9, 7:9].min() == 1


def test_read_only_pictures_are_fine():
    picture = smooth_picture(40, 40)
    picture.setflags(write=False)
    frames = list(Composite(picture, affine_clip(growth=-0.1), 8))
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
    ours = next(iter(Composite(picture, still(), 8, yuv=True)))
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
    matte = disc(100, 30, width=200)
    motion = affine_clip(growth=-0.2, body={"growth": -0.2, "x": 0.1})
    rgb, yuv = (list(Composite(picture, motion, 8, matte=matte, yuv=yuv)) for yuv in (False, True))
    for a, b in zip(rgb, yuv, strict=True):
        luma, chroma = to_yuv420(np.ascontiguousarray(a))
        y, u, v = planes(b, 100, 200)
        assert np.abs(luma[0].numpy() - y).mean() < 1
        assert np.abs(chroma.numpy() - np.stack([u, v])).mean() < 1.5


def test_an_odd_side_is_padded_by_one(photo):
    [first, *_] = Composite(photo[:, :199], still(), 8, yuv=True)
    assert first.shape == (153, 200)
    y, _, _ = planes(first, 102, 200)
    assert np.array_equal(y[-1], y[-2]) and np.array_equal(y[:, -1], y[:, -2])


@pytest.mark.parametrize("subject", [True, False])
def test_a_camera_that_moves_away_ends_at_the_whole_picture(subject):
    """Nothing beyond the borders is ever seen: it would have to be made up."""
    picture, matte = two_layers(128)
    motion = replace(
        affine_clip(growth=0.25, body={"growth": 0.28}), inside=(1.0, 1.12 if subject else 1.0)
    )
    clip = Composite(picture, motion, 9, matte=matte if subject else None)
    assert clip.background[0].extent == picture.shape[:2], "no margins"
    first, *_, last = clip
    assert np.array_equal(last, picture)
    middle = np.asarray(
        Image.fromarray(picture).resize((128, 128), Image.Resampling.BICUBIC, (13, 13, 115, 115))
    )
    assert np.abs(first.astype(int) - middle)[8:-8, 8:-8].mean() < 6


def test_a_loop_of_a_camera_that_moves_away_shows_the_picture_half_way():
    picture, _ = two_layers(64)
    frames = list(Composite(picture, replace(affine_clip(growth=0.2), inside=(1, 1)), 8, loop=True))
    assert np.array_equal(frames[4], picture)
    assert np.abs(frames[1].astype(int) - frames[7]).max() <= 1


def test_what_is_soft_bends_in_its_place_although_the_camera_starts_inside():
    picture = textured(128, 128)
    soft = torch.zeros(2, 2, 8, 16, 16)
    soft[0, 0, :, 4:7] = 0.05
    rigid = replace(affine_clip(growth=0.3), inside=(1.0, 1.0))
    bent = list(Composite(picture, replace(rigid, soft=soft), 9))[4].astype(int)
    change = np.abs(bent - list(Composite(picture, rigid, 9))[4]).mean((1, 2))
    # Rows 32 to 56 of the picture, magnified by 1.3 / 1.15 about the middle.
    assert change[30:54].mean() > 2 and change[70:].max() == 0 and change[:10].max() < 1
