"""The state of layered motion: rigid by construction, and what it stands for."""

import pytest
import torch

from workers.pipeline.affine import from_origin, to_fields, to_path
from workers.pipeline.asked import Asked
from workers.pipeline.layer_state import (
    AFFINE,
    CAMERA,
    SOFT,
    carried,
    centre_of,
    channel_scales,
    gate,
    has_subject,
    layered_motion,
)
from workers.pipeline.layers import maps
from workers.pipeline.noise import LayeredNoise


def matte(left=4, top=6, width=5, height=6):
    area = torch.zeros(16, 16)
    area[top : top + height, left : left + width] = 1
    return area


def draw(count=200, seed=0):
    return LayeredNoise(8, 16).draw(count, torch.Generator().manual_seed(seed))


def test_noise_of_camera_and_body_is_affine():
    affine = draw(8)[:, AFFINE].unflatten(1, (2, 2))
    assert torch.allclose(to_fields(to_path(affine), 16), affine, atol=1e-5)


def test_noise_has_unit_variance_and_is_smooth_in_time():
    noise = draw(400)
    assert noise.shape == (400, 8, 8, 16, 16)
    for channels in (AFFINE, SOFT):
        assert noise[:, channels].square().mean().item() == pytest.approx(1, rel=0.1)
    paths = to_path(noise[:, AFFINE].unflatten(1, (2, 2)))
    jumps = paths.diff(dim=2).square().mean() / paths.square().mean()
    assert jumps < 0.8  # 2 for noise that is white in time
    # Each coefficient moves the field by as much as any other.
    shares = (paths.square().mean((0, 1, 2, 3)) * torch.tensor([1 / 3, 1 / 3, 1])).sqrt()
    assert shares.std() / shares.mean() < 0.1


def test_noise_follows_from_its_generator():
    assert torch.equal(draw(3, seed=5), draw(3, seed=5))
    assert not torch.equal(draw(3, seed=5), draw(3, seed=6))


def test_a_subject_is_found_and_its_centre_too():
    assert has_subject(matte())
    assert centre_of(matte()).tolist() == pytest.approx([-3 / 16, 2 / 16])
    for area in (0 * matte(), torch.ones(16, 16), matte(width=1, height=1)):
        assert not has_subject(area)
        assert centre_of(area).tolist() == [0, 0]


def test_a_gate_is_closed_or_open_where_the_network_is_sure():
    open_share = gate(torch.tensor([0.0, 0.1, 0.15, 0.3, 0.5, 0.9, 1.0])).tolist()
    assert open_share[:3] == [0, 0, 0] and open_share[4:] == [1, 1, 1]
    assert 0 < open_share[3] < 1


def state():
    return draw(1)[0] * channel_scales((0.05, 0.05, 0.02, 0.02), draw(1))


def test_what_is_not_soft_does_not_bend_at_all():
    motion = layered_motion(state(), matte(), torch.full((2, 16, 16), 0.1))
    assert not motion.soft.any()
    assert torch.allclose(motion.camera, to_path(state()[CAMERA]))
    assert not torch.allclose(motion.camera, motion.body)


def test_a_picture_without_a_subject_has_only_a_camera():
    motion = layered_motion(state(), 0 * matte(), torch.ones(2, 16, 16))
    assert torch.equal(motion.camera, motion.body)
    assert motion.soft[0].any() and not motion.soft[1].any()


def test_a_soft_field_moves_along_with_its_layer():
    field = torch.zeros(2, 1, 16, 16)
    field[:, :, 7:9, 3:5] = 1
    right = torch.zeros(1, 2, 3)
    right[0, 0, 2] = -0.5  # a frame shows at x what lies at x - 0.5: four cells to the right
    assert torch.allclose(carried(field, right)[:, :, 7:9, 7:9], torch.ones(2, 1, 2, 2), atol=1e-5)
    assert carried(field, right).sum().item() == pytest.approx(8, abs=1e-4)


def test_a_body_turns_around_its_own_centre_in_front_of_the_camera():
    turning = torch.zeros(8, 2, 3)
    turning[:, 0, 1], turning[:, 1, 0] = -0.3, 0.3
    given = torch.zeros(8, 8, 16, 16)
    given[2:4] = to_fields(turning, 16)
    motion = layered_motion(given, matte(), torch.zeros(2, 16, 16))
    assert not motion.camera.any()
    assert torch.allclose(motion.body, from_origin(turning, centre_of(matte())), atol=1e-5)


@pytest.mark.parametrize("prompt", ["zoom out", "gently sway, zoom out"])
def test_a_zoom_out_starts_inside_and_ends_at_the_picture(prompt):
    away = torch.zeros(8, 2, 3)
    away[:, 0, 0] = away[:, 1, 1] = 0.16 * torch.arange(1, 9) / 8
    given = torch.zeros(8, 8, 16, 16)
    given[CAMERA] = to_fields(away, 16)
    for area in (matte(), 0 * matte()):
        motion = layered_motion(given, area, torch.zeros(2, 16, 16), Asked.read(prompt))
        for path, view in zip((motion.camera, motion.body), motion.views(), strict=True):
            assert maps(path)[-1, 0, 0] * view == pytest.approx(1, abs=1e-5)
    zoom_in = layered_motion(-given, matte(), torch.zeros(2, 16, 16), Asked.read("zoom in"))
    assert zoom_in.views() == (1, 1)
