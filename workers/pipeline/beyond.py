"""Continues a picture beyond its borders with whole pieces of itself, shifted, never mirrored.

What comes into view in a pan is a narrow strip. Small patches fill it with many small things that
do not belong together. So each stretch of the border is continued by one shifted piece of the
picture (Pritch, Kav-Venaki and Peleg 2009, doi:10.1109/ICCV.2009.5459159): the piece whose side
continues what is along the border. Which piece continues which rows is the shortest path over the
rows, as the costs of a piece, and of a seam between two, add up.
"""

from typing import NamedTuple

import cv2
import numpy as np

from workers.pipeline.smooth import pulled_and_pushed

CELLS = 128  # along the longest side, in which pieces are compared
BAND = 8  # cells along the border that a piece has to agree with
LESS = 0.8  # how much less each cell of the band counts than the one before it
SLANT = 0.35  # of the border: how far a piece may be shifted along it
GRAIN = 1.5  # how much more a difference in contrast counts than one in colour
# What a piece brings along should be like what is at the border: nothing new comes into view. The
# difference counts so much, up to so many squared grey levels.
NEW, NEW_MOST = 0.5, 60.0**2
AROUND = 0.05  # of the border, to both sides: what lies there is not new
OTHER = 0.4  # how much a difference in alpha counts there
FAR = 1.0  # how much a piece from the other end of the picture costs, times a usual one
SEAM = 12.0  # what another piece costs, in rows of a usual one
LEAST_COST = 16.0  # squared grey levels: in smooth pictures, differences below do not count
ANCHORS, TRIED = 24, 4  # rows whose best pieces are tried, and how many of each
WINDOW = 3  # cells to both sides that help to choose them
RIM, RIM_BLUR = 1.5, 3.5  # cells at the border that are continued; over how many they agree
TINT = 45.0  # grey levels that a piece may lack and still be tinted
LEFT_OVER = 0.5  # from pixel to pixel, of what else is lacking at the border
# Of a difference in mean colour, which a tint takes away, so much is forgiven, up to so much.
TINTED, MATCHED = 0.9, 50.0
MEET = 6  # cells on each side of a change of pieces where their seam may run
FADE = 0.5  # cells on each side over which two pieces fade into each other


class Margins(NamedTuple):
    """Pixels beyond each border."""

    left: int
    top: int
    right: int
    bottom: int


def widened(picture: np.ndarray, margins: Margins) -> np.ndarray:
    """The picture (H, W, C), in grey levels, with margins that continue it; float32.

    All channels are continued together: an alpha that comes along goes on where its colours do.
    """
    out = _before(picture.astype(np.float32), margins.left)
    out = _before(out[:, ::-1], margins.right)[:, ::-1]
    out = _before(out.transpose(1, 0, 2), margins.top).transpose(1, 0, 2)
    out = _before(out[::-1].transpose(1, 0, 2), margins.bottom).transpose(1, 0, 2)[::-1]
    return np.ascontiguousarray(out)


def _before(picture: np.ndarray, margin: int) -> np.ndarray:
    """The picture with `margin` more columns before its first."""
    while margin > 0:
        width = picture.shape[1]
        if width < 4:
            return np.pad(picture, ((0, 0), (margin, 0), (0, 0)), mode="edge")
        part = min(margin, width // 3)  # a piece, and a band that fits, must lie in the picture
        picture = np.concatenate([_strip(np.ascontiguousarray(picture), part), picture], 1)
        margin -= part
    return picture


def _strip(picture: np.ndarray, margin: int) -> np.ndarray:
    """The `margin` columns that come before the picture's first."""
    height, width = picture.shape[:2]
    step = max(1, round(max(height, width) / CELLS))
    step = min(step, max(1, width // 12))
    band = min(BAND, width // step - -(-margin // step) - 1)
    if band < 1 or height // step < 2:
        return np.repeat(picture[:, :1], margin, 1)
    offsets = _offsets(_cells(picture, step), -(-margin // step), band)
    # Pieces: first row, and rows and columns from the strip to what is copied there.
    pieces: list[tuple[int, int, int]] = []
    for row, (down, across) in enumerate(offsets.tolist()):
        if not pieces or pieces[-1][1:] != (down, across):
            pieces.append((row, down, across))
    ends = [first * step for first, _, _ in pieces[1:]] + [height]
    copies = []
    for (first, down, across), end in zip(pieces, ends, strict=True):
        near = (down * step, across * step)
        copies.append(_refined(picture, margin, band * step, (first * step, end), near, step))
    strip = _joined(picture, margin, ends[:-1], copies, step)
    # A tint makes nothing brighter or darker than all in the picture.
    flat = picture.reshape(-1, picture.shape[2])
    return strip.clip(flat.min(0), flat.max(0))


def _cells(picture: np.ndarray, step: int) -> np.ndarray:
    """Means over cells, and the contrast within them, (h, w, C + 1)."""
    height, width = (side // step * step for side in picture.shape[:2])
    whole = picture[:height, :width]
    size = (width // step, height // step)
    mean = cv2.resize(whole, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
    grey = whole[..., :3].mean(-1)
    square = cv2.resize(grey * grey, size, interpolation=cv2.INTER_AREA)
    contrast = np.sqrt(np.maximum(square - mean[..., :3].mean(-1) ** 2, 0))
    return np.concatenate([mean, GRAIN * contrast[..., None]], -1).astype(np.float32)


def _offsets(cells: np.ndarray, margin: int, band: int) -> np.ndarray:
    """For each row of cells, rows and columns to the piece that continues it, (h, 2)."""
    height, width, channels = cells.shape
    weight = LESS ** np.arange(band, dtype=np.float32)
    weight = weight / weight.sum()
    mean = cells[:, :band, :3].transpose(0, 2, 1) @ weight  # (h, 3)
    weight = np.sqrt(weight / channels)[None, :, None]
    at_border = (cells[:, :band] * weight).reshape(height, -1)
    # What lies in the band of a piece, for every column where the border may come to lie.
    starts = np.arange(margin, width - band + 1)
    bands = np.lib.stride_tricks.sliding_window_view(cells, band, 1)[:, margin:]  # (h, n, C, b)
    means = bands[:, :, :3] @ (np.square(weight[0, :, 0]) * channels)  # (h, n, 3)
    bands = (bands.transpose(0, 1, 3, 2) * weight).reshape(height, len(starts), -1)
    lengths = np.square(bands).sum(-1)
    mean_lengths = np.square(means).sum(-1)
    # What a piece brings along, against all that lies at the border near its row.
    colours = [*range(3), channels - 1]
    strange = np.minimum(_least_apart(cells[..., colours], AROUND), NEW_MOST)
    if channels > 4:  # an alpha: no subject comes into view where there is none
        strange += OTHER * _least_apart(cells[..., 3:-1], 0.0)
    total = np.cumsum(np.pad(strange, ((0, 0), (1, 0), (0, 0))), 1)
    strange = (total[:, margin:] - total[:, :-margin])[:, : len(starts)] * (NEW / margin)
    strange = np.ascontiguousarray(strange.transpose(2, 0, 1))  # (h at the border, h, n)
    reach = max(0, min(height - 1, round(SLANT * height)))
    cost = np.full((height, 2 * reach + 1, len(starts)), np.inf, np.float32)
    for number, down in enumerate(range(-reach, reach + 1)):
        here = slice(max(0, -down), min(height, height - down))
        there = slice(here.start + down, here.stop + down)
        found = _apart(bands[there], lengths[there], at_border[here])
        tint = _apart(means[there], mean_lengths[there], mean[here]) / 3
        found -= tint * (3 * TINTED / channels) / (1 + np.square(np.square(tint / MATCHED**2)))
        rows = np.arange(here.start, here.stop)
        cost[here, number] = np.maximum(found, 0) + strange[rows, rows + down]
    return _path(cells, cost, margin, reach)


def _apart(those: np.ndarray, lengths: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Squared distances (h, n) of those (h, n, k), of known squared lengths, from own (h, k)."""
    dots = np.matmul(those, own[..., None])[..., 0]
    apart: np.ndarray = np.maximum(lengths + np.square(own).sum(-1)[:, None] - 2 * dots, 0)
    return apart


def _least_apart(cells: np.ndarray, around: float) -> np.ndarray:
    """Of each cell, how far it is from the nearest at the border around a row, (h, w, h)."""
    height, width, channels = cells.shape
    flat, border = cells.reshape(height * width, channels), cells[:, 0]
    apart = np.square(flat).sum(-1)[:, None] + np.square(border).sum(-1) - 2 * flat @ border.T
    side = 2 * max(1, round(around * height)) + 1
    least: np.ndarray = cv2.erode(apart / channels, np.ones((1, side), np.uint8))
    return least.reshape(height, width, height)


def _path(cells: np.ndarray, cost: np.ndarray, margin: int, reach: int) -> np.ndarray:
    """The cheapest pieces for the rows, (h, 2), of the costs (h, offsets down, columns)."""
    height, width = cells.shape[:2]
    columns = cost.shape[2]
    usual = float(np.median(cost.min((1, 2)))) + LEAST_COST
    downs = np.abs(np.arange(-reach, reach + 1)) / max(1, reach)
    acrosses = np.arange(columns) / max(1, width)
    cost += (usual * FAR * (downs[:, None] + acrosses)).astype(np.float32)
    flat = cost.reshape(height, -1)
    # Choose what to try over windows of rows: infinite where any row of them has no such piece.
    tried: set[int] = {
        reach * columns + int(flat[:, reach * columns :][:, :columns].mean(0).argmin())
    }
    for anchor in np.linspace(0, height - 1, min(ANCHORS, height)).round().astype(int):
        window = flat[max(0, anchor - WINDOW) : anchor + WINDOW + 1].mean(0)
        level = window.reshape(-1, columns)
        for _ in range(TRIED):
            best = int(level.argmin())
            if not np.isfinite(level.flat[best]):
                break
            tried.add(best)
            row, column = divmod(best, columns)
            level[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = np.inf
    labels = np.array(sorted(tried))
    down, across = labels // columns - reach, labels % columns + margin
    unary = flat[:, labels]  # (h, n)
    # What the pieces hold in the strip, (h, n, margin C), for the seams between them.
    rows = (np.arange(height)[:, None] + down).clip(0, height - 1)
    held = cells[rows[..., None], across[:, None] - margin + np.arange(margin)]
    held = held.reshape(height, len(labels), -1) / np.sqrt(margin * cells.shape[2])
    lengths = np.square(held).sum(-1)
    apart = lengths[:, :, None] + lengths[:, None] - 2 * np.matmul(held, held.transpose(0, 2, 1))
    seams = np.maximum(apart[:-1], 0) + np.maximum(apart[1:], 0)
    seams += SEAM * usual * (1 - np.eye(len(labels), dtype=np.float32))
    total, came = unary[0], []
    for row in range(1, height):
        ways = total[:, None] + seams[row - 1]
        came.append(ways.argmin(0))
        total = ways.min(0) + unary[row]
    chosen = [int(total.argmin())]
    for step in reversed(came):
        chosen.append(int(step[chosen[-1]]))
    chosen.reverse()
    return np.stack([down[chosen], across[chosen]], 1)


def _refined(
    picture: np.ndarray,
    margin: int,
    band: int,
    rows: tuple[int, int],
    near: tuple[int, int],
    step: int,
) -> tuple[int, int]:
    """The offset to the pixel, near one to the cell."""
    height, width = picture.shape[:2]
    band = min(band, 3 * step)
    own = picture[rows[0] : rows[1], :band]
    best, least = (0, max(margin, min(near[1], width - band))), np.inf
    coarse = max(1, step // 3)
    for reach, stride in ((step, coarse), (coarse - 1, 1)):
        for down in range(near[0] - reach, near[0] + reach + 1, stride):
            top, bottom = max(rows[0], -down), min(rows[1], height - down)
            if bottom - top < (rows[1] - rows[0]) / 2:
                continue
            last = min(width - band, near[1] + reach)
            for across in range(max(margin, near[1] - reach), last + 1, stride):
                there = picture[top + down : bottom + down, across : across + band]
                cost = np.square(there - own[top - rows[0] : bottom - rows[0]]).mean()
                if cost < least:
                    best, least = (down, across), cost
        near = best
    return best


def _copy(
    picture: np.ndarray, margin: int, offset: tuple[int, int], rows: slice, step: int
) -> np.ndarray:
    """Rows of the strip, copied with an offset and tinted as what they continue; (n, margin, C).

    What they lack on the rim is continued smoothly, as in membrane cloning (Farbman et al. 2009,
    doi:10.1145/1531326.1531373).
    """
    down, across = offset
    at = (np.arange(rows.start, rows.stop) + down).clip(0, len(picture) - 1)
    rim = min(max(1, round(RIM * step)), picture.shape[1] - across)
    held = picture[at, across - margin : across + rim]
    known = np.zeros(held.shape[:2], bool)
    known[:, margin:] = True
    lacking = np.zeros((*held.shape[:2], 3), np.float32)
    lacking[:, margin:] = picture[rows, :rim, :3] - held[:, margin:, :3]
    side = (2 * rim, max(1, round(RIM_BLUR * step)))
    share = cv2.blur(known.astype(np.float32), side)[..., None]
    mean = cv2.blur(lacking, side) / np.maximum(share, 1e-6)
    # Where much is lacking, another thing begins at the border, and its colour ends there.
    mean /= 1 + (np.square(mean).mean(-1, keepdims=True) / TINT**2) ** 4
    tint = pulled_and_pushed(mean.astype(np.float32), known)[:, :margin]
    # Next to the border, to the pixel: there the eye finds any step.
    fade = LEFT_OVER ** np.arange(margin, 0, -1, dtype=np.float32)[:, None]
    rest = (lacking[:, margin] - tint[:, -1]).clip(-TINT, TINT)
    tinted = held[:, :margin].copy()
    tinted[..., :3] += tint + fade * rest[:, None]
    return tinted


def _joined(
    picture: np.ndarray,
    margin: int,
    ends: list[int],
    offsets: list[tuple[int, int]],
    step: int,
) -> np.ndarray:
    """The strip (H, margin, C): pieces joined where they agree."""
    height = len(picture)
    bounds = [0, *ends, height]
    out = np.zeros((height, margin, picture.shape[2]), np.float32)
    filled = 0  # rows
    for number, offset in enumerate(offsets):
        first, end = bounds[number], bounds[number + 1]
        # It may reach into its neighbours, half their height at most.
        reach = min(MEET * step, (first - bounds[number - 1]) // 2) if number else 0
        top, bottom = first - reach, end
        if number + 1 < len(offsets):
            bottom += min(MEET * step, (bounds[number + 2] - end) // 2)
        piece = _copy(picture, margin, offset, slice(top, bottom), step)
        if reach:
            # The copy before has filled as far as the two may overlap.
            meet = min(bottom, filled) - top
            seam = _seam(np.square(piece[:meet] - out[top : top + meet]).sum(-1))
            away = np.arange(len(piece))[:, None] - seam
            share = (away / (2 * max(1.0, FADE * step)) + 0.5).clip(0, 1)[..., None]
            share[meet:] = 1
            piece = out[top:bottom] + share.astype(np.float32) * (piece - out[top:bottom])
        out[top:bottom] = piece
        filled = bottom
    return out


def _seam(cost: np.ndarray) -> np.ndarray:
    """The row in each column of the cheapest path from left to right, in cost (h, w)."""
    total, came = cost[:, 0], []
    rows = np.arange(len(cost))
    around = np.full(len(cost) + 2, np.inf, cost.dtype)
    ways = np.lib.stride_tricks.sliding_window_view(around, len(cost))  # (3, h)
    for column in cost.T[1:]:
        around[1:-1] = total
        best = ways.argmin(0)
        came.append(rows + best)
        total = around[came[-1]] + column
    path = [int(total.argmin())]
    for step in reversed(came):
        path.append(int(step[path[-1]]) - 1)
    return np.array(path[::-1])
