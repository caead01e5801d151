"""Affine paths are exact: composed, undone, moved, and projected from fields."""

import pytest
import torch

from workers.pipeline.affine import (
    around,
    compose,
    displacements,
    from_origin,
    inverse,
    to_fields,
    to_path,
)
from workers.pipeline.grid import place
from workers.pipeline.layers import maps


def paths(seed, *, turns=0.5):
    draw = torch.Generator().manual_seed(seed)
    path = 0.15 * torch.randn(4, 2, 3, generator=draw)
    turn = turns * torch.rand(4, generator=draw)
    path[:, 0, 1] -= turn
    path[:, 1, 0] += turn
    return path


def moved(path, points):
    """Where a path samples for points (n, 2): (T, n, 2)."""
    whole = maps(path)
    return points @ whole[..., :2].transpose(-1, -2) + whole[..., 2][:, None]


def test_maps_and_displacements_undo_each_other():
    assert torch.allclose(displacements(maps(paths(0))), paths(0), atol=1e-6)


def test_a_turn_keeps_lengths():
    turn = torch.zeros(1, 2, 3)
    turn[0, 0, 1], turn[0, 1, 0] = -0.6, 0.6
    points = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(moved(turn, points)[0].norm(dim=1), points.norm(dim=1), atol=1e-6)


def test_composed_paths_sample_one_after_the_other():
    camera, body = paths(1), paths(2)
    points = torch.randn(20, 2, generator=torch.Generator().manual_seed(3))
    steps = [moved(body[t : t + 1], moved(camera[t : t + 1], points)[0])[0] for t in range(4)]
    assert torch.allclose(moved(compose(camera, body), points), torch.stack(steps), atol=1e-5)


def test_an_inverse_undoes_its_path():
    for first, then in ((paths(4), inverse(paths(4))), (inverse(paths(4)), paths(4))):
        assert compose(first, then).abs().max() < 1e-5


def test_a_turn_around_a_centre_keeps_the_centre():
    turn = torch.zeros(3, 2, 3)
    turn[:, 0, 1], turn[:, 1, 0] = -0.4, 0.4
    centre = torch.tensor([0.3, -0.5])
    path = from_origin(turn, centre)
    assert torch.allclose(moved(path, centre[None])[:, 0], centre.expand(3, 2), atol=1e-6)
    assert torch.allclose(around(path, centre), turn, atol=1e-6)


def test_fields_of_a_path_project_back_to_it():
    path = paths(5)
    fields = to_fields(path, 16)
    assert fields.shape == (2, 4, 16, 16)
    assert torch.allclose(to_path(fields), path, atol=1e-6)
    x, y = place(16)
    first = path[0, 0]
    assert torch.allclose(fields[0, 0], first[0] * x + first[1] * y + first[2], atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_projection_leaves_a_rest_that_is_orthogonal_to_every_path(seed):
    draw = torch.Generator().manual_seed(seed)
    fields = torch.randn(2, 4, 16, 16, generator=draw)
    rest = fields - to_fields(to_path(fields), 16)
    assert to_path(rest).abs().max() < 1e-6
    assert (rest * to_fields(paths(seed), 16)).sum().abs() < 1e-3
