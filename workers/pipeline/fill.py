"""Fills holes in a picture with what fits: pieces of the picture itself, never a mirror image.

Space-time completion (Wexler, Shechtman and Irani 2007, doi:10.1109/TPAMI.2007.60) on one picture:
each small patch that touches the hole looks for its nearest neighbour among the known patches, the
neighbours vote for the colours of the hole, and so on, from coarse to fine. The last neighbours say
from where the pixels of the full picture are copied, so what is filled is as sharp as the rest.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workers.pipeline.patches import (
    MARGIN,
    dilate,
    erode,
    in_margin,
    inside,
    patches_of,
    summed,
    with_margin,
)
from workers.pipeline.smooth import smooth

CELLS = 192  # of the finest level, along the longest side; each coarser one has half as many
COARSE_ROUNDS = 4
COARSE_RADIUS = 2  # of a patch, in cells
FINER = ((3, 2), (2, 1))  # levels: the radius of a patch, and rounds
PAIRS = 4_000_000  # patches compared at a time, which bounds memory
LEAST_KNOWN = 12  # patches; with fewer, the fill is smooth
FADE = 0.85  # how much less a cell of the hole counts in a patch than one that is nearer to known
BLOCK = 3  # cells along a side of what is copied from one place
SHORT = 4  # the power of a fade between two blocks: higher is shorter
GRAIN = 1.5  # how much more a difference in contrast counts than one in colour
CHANNELS = 4  # of a cell: its mean colour, and the contrast within it
TINT = 40.0  # grey levels by which a copied piece may be tinted, at most
_AROUND = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))
# Where a patch looks for a better place: (how far its neighbour is, rows, columns), 0: itself.
_TRIES = [
    *((2, *step) for step in _AROUND),
    *((0, *step) for step in _AROUND[:4]),
    *((1, *step) for step in _AROUND),
]


def fill(pixels: np.ndarray, hole: np.ndarray, unused: np.ndarray | None = None) -> np.ndarray:
    """The picture (H, W, 3) uint8 with its hole, (H, W) bool, filled.

    unused (H, W) bool: neither known nor to be filled; what it holds then is undefined. It starts
    from a smooth continuation: along the rim, behind a subject, a photo is blurred, and would go on
    as a halo.
    """
    if not hole.any():
        return pixels
    known = ~hole if unused is None else ~(hole | unused)
    if not known.any():
        return np.full_like(pixels, 128)
    step = max(1, round(max(hole.shape) / CELLS))
    photo = _Photo(pixels, known, hole)
    fine = _Level.of(photo, step << len(FINER))
    fine.colour = smooth(fine.colour, fine.known)
    places = fine.search_all(COARSE_RADIUS, COARSE_ROUNDS)
    for finer, (radius, rounds) in enumerate(FINER, 1):
        coarse, fine = fine, _Level.of(photo, step << (len(FINER) - finer))
        if places is None:
            fine.colour = smooth(fine.colour, fine.known)
            continue
        start = F.interpolate(coarse.colour, scale_factor=2, mode="bilinear")
        start = start[..., : fine.known.shape[0], : fine.known.shape[1]]
        fine.colour = torch.where(fine.known, fine.colour, start)
        places = fine.search_near(places, radius, rounds)
    sources = None if places is None else _offsets(places)
    out = pixels.copy()
    rows, columns = hole.nonzero()
    if sources is None:
        mean = fine.colour[0, :3].permute(1, 2, 0).numpy()
        out[rows, columns] = _upsampled(mean, step)[rows, columns].round().clip(0, 255)
        return out
    copied = np.zeros((*hole.shape, 3), np.float32)
    copied[rows, columns] = _copied(pixels, rows, columns, step, sources)
    # The copies' details, with the colours that the patches agreed on.
    level = _Level.of(_Photo(copied, hole, hole), step)
    tinted = torch.from_numpy(level.share > 0.3)
    tint = smooth((fine.colour - level.colour)[:, :3] * tinted, tinted).clamp(-TINT, TINT)
    wide = _upsampled(tint[0].permute(1, 2, 0).numpy(), step)[: hole.shape[0], : hole.shape[1]]
    copied += wide
    out[hole] = copied[hole].round().clip(0, 255)
    return out


def _offsets(places: Tensor) -> Tensor:
    """(h, w, 2) rows and columns from each cell to its place, NaN where it has none."""
    height, width = places.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    offsets = torch.stack([places // width - rows, places % width - columns], -1).float()
    offsets[places < 0] = torch.nan
    return offsets


def _upsampled(cells: np.ndarray, step: int) -> np.ndarray:
    size = (cells.shape[1] * step, cells.shape[0] * step)
    wide: np.ndarray = cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR)
    return wide


class _Photo:
    """The picture in pixels, as the levels are made of it; (H, W) and (H, W, 3) float32."""

    def __init__(self, pixels: np.ndarray, known: np.ndarray, hole: np.ndarray):
        self.weight = known.astype(np.float32)
        self.asked = hole.astype(np.float32)
        self.colour = pixels * self.weight[..., None]
        self.luma_squared = np.square(self.colour @ np.full(3, 1 / 3, np.float32))


@dataclass
class _Level:
    """The picture in cells of some pixels."""

    colour: Tensor  # (1, CHANNELS, h, w) float32
    known: Tensor  # (h, w) bool: all of the cell's pixels are
    target: Tensor  # (h, w) bool: some of them are to be filled
    share: np.ndarray  # (h, w) float32: of the cell's pixels that are known

    @classmethod
    def of(cls, photo: "_Photo", step: int) -> "_Level":
        height, width = photo.weight.shape
        high, wide = height + -height % step, width + -width % step

        def mean_of(x: np.ndarray) -> np.ndarray:
            whole = cv2.copyMakeBorder(x, 0, high - height, 0, wide - width, cv2.BORDER_CONSTANT)
            small: np.ndarray = cv2.resize(
                whole, (wide // step, high // step), interpolation=cv2.INTER_AREA
            )
            return small

        share = mean_of(photo.weight)
        # What is padded takes no part; it must not make its cells unknown.
        whole = mean_of(np.ones_like(photo.weight))
        mean = mean_of(photo.colour) / np.maximum(share, 1e-6)[..., None]
        square = mean_of(photo.luma_squared) / np.maximum(share, 1e-6)
        contrast = np.sqrt(np.maximum(square - np.square(mean.mean(-1)), 0))
        mean = np.concatenate([mean, GRAIN * contrast[..., None]], -1)
        return cls(
            torch.from_numpy(mean).permute(2, 0, 1)[None],
            torch.from_numpy(share >= whole - 1e-4) & torch.from_numpy(whole > 0),
            torch.from_numpy(mean_of(photo.asked) > 0),
            share,
        )

    def search_all(self, radius: int, rounds: int) -> Tensor | None:
        """Fill the target in place; every known patch is compared.

        Returns the cell that each cell takes its patch from, (h, w) indices, -1 outside the
        target; None if too little is known.
        """
        sources = erode(self.known, radius).flatten().nonzero().flatten()
        if len(sources) < LEAST_KNOWN:
            return None
        queries = dilate(self.target, radius).flatten().nonzero().flatten()
        trust = patches_of(self._trust(), radius)  # (h w, k)
        for _ in range(rounds):
            patches = patches_of(self.colour, radius)
            found, distance = self._nearest(queries, sources, patches, trust)
            self._vote(queries, found, distance, patches, trust, radius)
        places = torch.full((self.known.numel(),), -1)
        places[queries] = found
        return places.view(self.known.shape)

    def search_near(self, rough: Tensor, radius: int, rounds: int) -> Tensor | None:
        """Fill the target in place, from the places that the coarser level found.

        Patches try the places of their neighbours (Barnes et al. 2009,
        doi:10.1145/1531326.1531330), so that what is copied hangs together. Returns the cell that
        each cell of the target (and its neighbours) takes its pixels from, (h, w) indices, -1
        elsewhere. None if too little is known.
        """
        width = self.known.shape[1]
        usable = erode(self.known, radius)
        if usable.sum() < LEAST_KNOWN:
            return None
        queries = dilate(self.target, radius).flatten().nonzero().flatten()
        rows, columns = queries // width, queries % width
        above = rough[rows // 2, columns // 2]
        coarse_width = rough.shape[1]
        found_rows = 2 * (above // coarse_width) + rows % 2
        found_columns = 2 * (above % coarse_width) + columns % 2
        place = torch.stack([found_rows, found_columns], 1)
        # A cell without a place above starts from the nearest usable ones in reading order.
        lost = (above < 0) | ~inside(place, usable)
        spare = usable.flatten().nonzero().flatten()
        other = spare[torch.searchsorted(spare, queries[lost]).clamp(max=len(spare) - 1)]
        found = place[:, 0] * width + place[:, 1]
        found[lost] = other
        trust = patches_of(self._trust(), radius)
        for _ in range(rounds):
            patches = patches_of(self.colour, radius)
            found, distance = self._improved(found, queries, usable, patches, trust)
            mean, covered = self._vote(queries, found, distance, patches, trust, radius)
        self._joined(mean, covered)
        places = torch.full(tuple(self.known.shape), -1)
        places.view(-1)[queries] = found
        return places

    def _improved(
        self, place: Tensor, queries: Tensor, usable: Tensor, patches: Tensor, trust: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Better places (n,) for the patches at `queries` (n,), and their distances."""
        asked, weight = patches[queries].view(len(queries), CHANNELS, -1), trust[queries]
        total = weight.sum(1)
        apart = torch.empty_like(asked)
        # Cells as they are counted in a picture with a margin as wide as a try reaches.
        width = self.known.shape[1] + 2 * MARGIN
        cell_of = with_margin(torch.arange(usable.numel()).view_as(usable), 0)
        order = torch.full((usable.numel(),), -1)
        order[queries] = torch.arange(len(queries))
        order = with_margin(order.view_as(usable), -1)
        allowed = with_margin(usable, 0)
        own, place = (in_margin(cells, usable.shape[1]) for cells in (queries, place))

        def cost(places: Tensor) -> Tensor:
            # In place, and whole rows at once: this is where most of the time goes.
            torch.index_select(patches, 0, cell_of[places], out=apart.view(len(queries), -1))
            apart.sub_(asked)
            return apart.mul_(apart).sum(1).mul_(weight).sum(1).div_(total)

        best = cost(place)
        for reach, row, column in _TRIES:
            step = row * width + column
            if reach:  # what a neighbour found
                beside = order[own + reach * step]
                tried = place[beside.clamp(min=0)] - reach * step
                tried = torch.where((beside >= 0) & allowed[tried], tried, place)
            else:  # one cell further
                tried = place + step
                tried = torch.where(allowed[tried], tried, place)
            distance = cost(tried)
            better = distance < best
            place = torch.where(better, tried, place)
            best = torch.where(better, distance, best)
        return cell_of[place], best

    def _trust(self) -> Tensor:
        """How much each cell counts in a patch, (1, 1, h, w): less, the deeper in the hole."""
        away = cv2.distanceTransform(
            (~self.known).numpy().astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3
        )
        return torch.from_numpy(FADE**away).clamp(min=0.05)[None, None]

    def _nearest(
        self, queries: Tensor, sources: Tensor, patches: Tensor, trust: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The nearest known patch of each query, as an index of cells, and its distance."""
        known = patches[sources]
        squares = known.view(len(sources), CHANNELS, -1).square().sum(1)  # (m, k)
        nearest, distance = [], []
        for part in torch.split(queries, max(1, PAIRS // len(sources))):
            weight = trust[part]  # (n, k)
            asked = patches[part]
            weighted = (asked.view(len(part), CHANNELS, -1) * weight[:, None]).flatten(1)
            # sum w (q - s)^2 without its constant part, sum w q^2
            cost = torch.addmm(weight @ squares.T, weighted, known.T, alpha=-2)
            least = cost.min(1)
            nearest.append(sources[least.indices])
            whole = least.values + (weighted * asked).sum(1)
            distance.append(whole.clamp(min=0) / weight.sum(1))
        return torch.cat(nearest), torch.cat(distance)

    def _vote(
        self,
        queries: Tensor,
        found: Tensor,
        distance: Tensor,
        patches: Tensor,
        trust: Tensor,
        radius: int,
    ) -> tuple[Tensor, Tensor]:
        """Replace the colours of the target by the mean of what the patches over it propose.

        Returns that mean for all cells, (1, c, h, w), and where there is one, (h, w).
        """
        spread = distance.quantile(0.75).clamp(min=1.0)
        # A patch on the rim knows more than one deep in the hole.
        weight = (-distance / spread).exp() * trust[queries, trust.shape[1] // 2] + 1e-6
        proposed = patches.index_select(0, found) * weight[:, None]
        size = tuple(self.known.shape)
        total = summed(proposed, queries, size, radius)
        votes = summed(weight[:, None].expand_as(trust[queries]), queries, size, radius)
        mean, covered = (total / votes.clamp(min=1e-9))[None], votes[0] > 0
        self.colour = torch.where(self.target & ~self.known & covered, mean, self.colour)
        return mean, covered

    def _joined(self, mean: Tensor, covered: Tensor) -> None:
        """Make the colours of the target go on from those around it.

        What the patches propose misses the known colours at the rim of the hole. That difference
        is continued smoothly into the hole and added, as in membrane cloning (Farbman et al. 2009,
        doi:10.1145/1531326.1531373).
        """
        rim = self.known & covered
        missed = smooth((self.colour - mean) * rim, rim)
        inside = self.target & ~self.known & covered
        self.colour = torch.where(inside, (mean + missed).clamp(0, 255), self.colour)


def _copied(
    pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray, step: int, offsets: Tensor
) -> np.ndarray:
    """The pixels at (rows, columns), copied from where their blocks point; (n, 3) float32.

    Between blocks that point to different places, the copies fade into each other.
    """
    first = min(BLOCK // 2, *(side - 1 for side in offsets.shape[:2]))
    cells = offsets[first::BLOCK, first::BLOCK].numpy()
    height, width = cells.shape[:2]
    y, x = (((line + 0.5) / step - 0.5 - first) / BLOCK for line in (rows, columns))
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = y - top, x - left
    total = np.zeros((len(rows), 3), np.float32)
    weights = np.zeros((len(rows), 1), np.float32)
    usable = ~np.isnan(cells[..., 0]).ravel()
    moves = (np.nan_to_num(cells).astype(int) * step).reshape(-1, 2)
    flat = pixels.reshape(-1, 3)
    # One index into what is flat: two take several times as long.
    for row, share_y in ((top, 1 - down), (top + 1, down)):
        for column, share_x in ((left, 1 - right), (left + 1, right)):
            at = row.clip(0, height - 1) * width + column.clip(0, width - 1)
            there = usable.take(at)
            # A short fade: two textures on top of each other look soft.
            weight = np.where(there, (share_y * share_x) ** SHORT, 0)[:, None]
            weight = (weight + 1e-9 * there[:, None]).astype(np.float32)
            moved = moves.take(at, axis=0)
            from_y = (rows + moved[:, 0]).clip(0, pixels.shape[0] - 1)
            from_x = (columns + moved[:, 1]).clip(0, pixels.shape[1] - 1)
            total += weight * flat.take(from_y * pixels.shape[1] + from_x, axis=0)
            weights += weight
    mean: np.ndarray = total / np.maximum(weights, 1e-12)
    return mean
