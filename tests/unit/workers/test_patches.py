"""Patches are those of torch's unfold, and are laid over each other as by its fold."""

import pytest
import torch
import torch.nn.functional as F

from workers.pipeline.patches import MARGIN, in_margin, patches_of, summed, with_margin

RADII = pytest.mark.parametrize("radius", [1, 2, 3])


def grid(channels=4, height=7, width=11):
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))


@RADII
def test_patches_are_those_of_unfold(radius):
    x = grid()
    wide = F.pad(x, (radius,) * 4, mode="replicate")
    assert torch.equal(patches_of(x, radius), F.unfold(wide, 2 * radius + 1)[0].T)


@RADII
def test_some_patches_are_summed_as_by_fold_to_the_bit(radius):
    x = grid()
    patches = patches_of(x, radius)
    cells = torch.tensor([0, 3, 10, 11, 40, 41, 76])
    sparse = torch.zeros_like(patches)
    sparse[cells] = patches[cells]
    expected = F.fold(sparse.T[None], (7, 11), 2 * radius + 1, padding=radius)[0]
    assert torch.equal(summed(patches[cells], cells, (7, 11), radius), expected)


def test_cells_of_a_grid_are_found_again_in_its_margin():
    values = torch.arange(7 * 11).view(7, 11)
    flat = with_margin(values, -1)
    assert torch.equal(flat[in_margin(values.flatten(), 11)], values.flatten())
    assert flat.numel() == (7 + 2 * MARGIN) * (11 + 2 * MARGIN)
    assert (flat == -1).sum() == flat.numel() - values.numel()
