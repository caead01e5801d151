"""From layers and their motion to frames: each layer sampled, the subject laid over the background.

Bicubic: each plane is magnified once, FINER times, and the frames are sampled from that linearly,
affine layers by OpenCV's affine warp, bending ones by its remap (decision 97).
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from workers.pipeline.grid import extent, grid_weights
from workers.pipeline.in_order import in_order
from workers.pipeline.layers import BACKGROUND, SUBJECT, LayeredMotion, maps, zoom_of
from workers.pipeline.picture import Picture
from workers.pipeline.plates import Plane, Plates, Reach, _split

MakePlates = Callable[[np.ndarray, Reach, Reach, bool], Plates]
# What OpenCV samples, bicubic, beyond a position, and what may be lost by rounding; in samples.
SAMPLED = 3
# Odd, so that a plane's own samples are among those of the magnified one: at rest, nothing changes.
FINER = 3
APART = 1.3
RIM_POINTS = 17  # along each edge, where it is checked how far a motion looks beyond


REST = 1e-6  # half sides within which a frame is the picture


class Bend(NamedTuple):
    """The field that bends a layer: its cells along a side, and the part of it that is seen."""

    cells: int
    view: float


class Composite:
    """Frames of one picture under a layered motion, made one at a time."""

    def __init__(
        self,
        picture: np.ndarray | Picture,
        motion: LayeredMotion,
        frames: int,
        *,
        matte: np.ndarray | None = None,
        make_plates: MakePlates | None = None,
        loop: bool = False,
        yuv: bool = False,
    ):
        """picture (H, W, 3) uint8, or a Picture that may hold more pixels.

        matte: of its subject, at any size; None: the camera moves the picture in one piece, and the
        body's motion counts for nothing. make_plates: takes the picture apart instead of
        Plates.of, for a caller that keeps plates.

        The motion is first limited to what the picture bears (see LayeredMotion.limited). With
        `loop` it goes there and back, slowing down at both ends. Frame 0 is the picture itself, but
        where the camera moves away the last one is (LayeredMotion.inside). With `yuv` frames are
        (H * 3 / 2, W) uint8, YUV 4:2:0: Y, below it U, then V; an odd side gets a copy of its last
        samples.
        """
        if not isinstance(picture, Picture):
            picture = Picture(picture)
        self.yuv = yuv
        first = [samples for samples, _, _ in _split(_padded(picture.pixels, yuv), yuv)]
        self._sizes = [(part.shape[0], part.shape[1]) for part in first]
        self.first = self._joined([plane for part in first for plane in cv2.split(part)])
        self.shape = _padded(picture.pixels, yuv).shape[:2]
        if loop:  # the frame after the last is frame 0 again
            shares = (1 - torch.cos(torch.arange(frames) * (2 * math.pi / frames))) / 2
        else:
            shares = torch.linspace(0, 1, frames)
        self.motion = motion.dense().limited(*picture.pixels.shape[:2]).at(shares)
        views = self.motion.views()
        self.camera, self.body = (
            maps(path).double().numpy() @ np.diag([view, view, 1])
            for path, view in zip((self.motion.camera, self.motion.body), views, strict=True)
        )
        soft = self.motion.soft
        self.bends = [bool(layer.any()) for layer in soft]
        zooms = [zoom_of(self.motion.camera) / views[BACKGROUND]]
        if matte is not None:
            zooms.append(zoom_of(self.motion.body) / views[SUBJECT])
        source = picture.magnified(max(zooms))
        apart = 0.0 if matte is None else self._apart(matte)
        ground = Reach.of(*self._reach(self.camera, soft[BACKGROUND]), apart)
        body = Reach.of(*self._reach(self.body, soft[SUBJECT]))
        if make_plates is None:
            plates = Plates.of(source, matte, ground, body, yuv=yuv)
        else:
            plates = make_plates(source, ground, body, yuv)
        self.background = [
            _Sampler(plane, shape, source_shape, self._bend(BACKGROUND, views))
            for plane, shape, source_shape in zip(
                plates.background, self._sizes, plates.sizes, strict=True
            )
        ]
        self.subject = [
            _Sampler(plane, shape, source_shape, self._bend(SUBJECT, views))
            for plane, shape, source_shape in zip(
                plates.subject, self._sizes, plates.sizes, strict=False
            )
        ]

    def __iter__(self) -> Iterator[np.ndarray]:
        return in_order(self._made, range(len(self.camera)), torch.get_num_threads())

    def _made(self, frame: int) -> np.ndarray:
        # The picture itself, bit for bit: sampling at rest might round.
        return self.first.copy() if self._rests(frame) else self._frame(frame)

    def _rests(self, frame: int) -> bool:
        unit = np.eye(2, 3)
        rigid = all(np.abs(path[frame] - unit).max() < REST for path in (self.camera, self.body))
        return rigid and not self.motion.soft[:, :, frame].any()

    def _frame(self, frame: int) -> np.ndarray:
        moves = self._moves(frame)
        planes = []
        for index, background in enumerate(self.background):
            out = background.whole(self.camera[frame], moves[BACKGROUND])
            if self.subject:
                self.subject[index].lay_over(out, self.body[frame], moves[SUBJECT])
            planes += out
        return self._joined(planes)

    def _moves(self, frame: int) -> list[np.ndarray | None]:
        return [
            field[:, frame].numpy() if bends else None
            for field, bends in zip(self.motion.soft, self.bends, strict=True)
        ]

    def _bend(self, layer: int, views: tuple[float, float]) -> Bend | None:
        return Bend(self.motion.cells, views[layer]) if self.bends[layer] else None

    def _joined(self, planes: list[np.ndarray]) -> np.ndarray:
        if not self.yuv:
            return cv2.merge(planes)
        flat = [plane.reshape(-1) for plane in planes]
        return np.concatenate(flat).reshape(-1, planes[0].shape[1])

    def _reach(self, path: np.ndarray, soft: Tensor) -> list[float]:
        """How far a layer is seen beyond the picture's left, top, right and bottom edge."""
        ex, ey = extent(*self.shape)
        at = _displaced(path, np.linspace(-ex, ex, RIM_POINTS), np.linspace(-ey, ey, RIM_POINTS))
        if soft.any():
            bend = soft.abs().amax((1, 2, 3)).double().numpy()[:, None, None, None]
            at = np.stack([at - bend, at + bend])
        else:
            at = at[None]
        low, high = at.min((0, 2, 3, 4)), at.max((0, 2, 3, 4))
        return [-low[0] - ex, -low[1] - ey, high[0] - ex, high[1] - ey]

    def _apart(self, matte: np.ndarray) -> float:
        """How far the subject moves away from what it covers at rest."""
        ex, ey = extent(*self.shape)
        inside = matte > 0.05
        xs, ys = (
            (np.array([line[0], line[-1] + 1]) * 2 / size - 1) * half
            for line, size, half in (
                (np.flatnonzero(inside.any(0)), matte.shape[1], ex),
                (np.flatnonzero(inside.any(1)), matte.shape[0], ey),
            )
        )
        steps = self.body - self.camera
        away = float(np.linalg.norm(_displaced(steps, xs, ys), axis=0).max())
        bend = self.motion.soft[SUBJECT] - self.motion.soft[BACKGROUND]
        # A zoomed layer shows less of itself on the same length.
        return float(APART * (away + bend.norm(dim=0).amax().item()))


def _displaced(path: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Affine maps or displacements (n, 2, 3) at a grid of points: (2, n, ys, xs)."""
    x, y = np.meshgrid(xs, ys)
    at: np.ndarray = np.einsum("nck,kij->cnij", path, np.stack([x, y, np.ones_like(x)]))
    return at


def _padded(pixels: np.ndarray, yuv: bool) -> np.ndarray:
    if not yuv:
        return pixels
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _magnified(plane: np.ndarray) -> np.ndarray:
    """A plane (h, w) with FINER times the samples along each side, bicubic."""
    size = (FINER * plane.shape[1], FINER * plane.shape[0])
    magnified: np.ndarray = cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC)
    return magnified


class _Places(NamedTuple):
    """Where the samples of a region lie in a magnified plane."""

    matrix: np.ndarray  # (2, 3), from the region's samples
    size: tuple[int, int]  # width and height of the region
    bent: tuple[np.ndarray, np.ndarray] | None = None  # x and y, (h, w) float32, in its place

    def sampled(self, plane: np.ndarray, border: int) -> np.ndarray:
        if self.bent is not None:
            return cv2.remap(plane, *self.bent, cv2.INTER_LINEAR, borderMode=border)
        return cv2.warpAffine(
            plane,
            self.matrix,
            self.size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=border,
        )


class _Sampler:
    """One plane of a layer, sampled at the places of a frame's samples."""

    def __init__(
        self,
        plane: Plane,
        shape: tuple[int, int],
        source: tuple[int, int],
        bend: Bend | None,
    ):
        """shape: height and width of the frame; source: of the picture within the plane.

        bend: None for a rigid layer.
        """
        self.extent = plane.samples.shape[:2]
        # One channel at a time: OpenCV is slow with two.
        self.channels = [_magnified(part) for part in cv2.split(plane.samples)]
        self.shape = shape
        ex, ey = extent(*shape)
        # From samples of the frame to half sides, and from half sides to samples of the plane.
        self.to_half = np.array(
            [
                [2 * ex / shape[1], 0, ((0.5 + plane.sited) * 2 / shape[1] - 1) * ex],
                [0, 2 * ey / shape[0], (1 / shape[0] - 1) * ey],
                [0, 0, 1],
            ]
        )
        scale = (source[1] / (2 * ex), source[0] / (2 * ey))
        self.from_half = np.array(
            [
                [scale[0], 0, source[1] / 2 - 0.5 - plane.sited + plane.left],
                [0, scale[1], source[0] / 2 - 0.5 + plane.top],
                [0, 0, 1],
            ]
        )
        if bend is not None:
            ys = self.to_half[1, 1] * np.arange(shape[0]) + self.to_half[1, 2]
            xs = self.to_half[0, 0] * np.arange(shape[1]) + self.to_half[0, 2]
            rows, columns = (
                grid_weights(torch.from_numpy(bend.view * line).float(), bend.cells).numpy()
                for line in (ys, xs)
            )
            self.rows = rows * np.float32(FINER * scale[1])
            self.rows_for_x = rows * np.float32(FINER * scale[0])
            self.columns = np.ascontiguousarray(columns.T)

    def whole(self, layer_map: np.ndarray, move: np.ndarray | None) -> list[np.ndarray]:
        """A frame of the layer: its channels, (h, w) uint8 each."""
        height, width = self.shape
        places = self._places(layer_map, move, (0, 0, width, height))
        return [places.sampled(channel, cv2.BORDER_REPLICATE) for channel in self.channels]

    def lay_over(
        self, frame: list[np.ndarray], layer_map: np.ndarray, move: np.ndarray | None
    ) -> None:
        """Lay the layer, whose last channel is its alpha, over the channels of a frame (h, w)."""
        region = self._region(layer_map, move)
        left, top, right, bottom = region
        if right <= left or bottom <= top:
            return
        places = self._places(layer_map, move, region)
        *colours, alpha = (places.sampled(part, cv2.BORDER_CONSTANT) for part in self.channels)
        clear = cv2.bitwise_not(alpha)
        for behind, colour in zip(frame, colours, strict=True):
            part = behind[top:bottom, left:right]
            cv2.add(colour, cv2.multiply(part, clear, scale=1 / 255), dst=part)

    def _places(
        self, layer_map: np.ndarray, move: np.ndarray | None, region: tuple[int, int, int, int]
    ) -> "_Places":
        """Where a region of a frame is sampled."""
        left, top, right, bottom = region
        whole = self.from_half @ np.vstack([layer_map, [0, 0, 1]]) @ self.to_half
        matrix = whole[:2].copy()
        matrix[:, 2] += whole[:2, :2] @ (left, top)
        matrix = FINER * matrix
        matrix[:, 2] += (FINER - 1) / 2  # the middle one of a sample's finer ones
        size = (right - left, bottom - top)
        if move is None:
            return _Places(matrix, size)
        # The affine part rides along in one product with the bend: two more rows and columns.
        across = np.arange(size[0], dtype=np.float32)
        down = np.arange(size[1], dtype=np.float32)[:, None]
        one_row, one_column = np.ones_like(across), np.ones_like(down)
        columns = np.vstack([self.columns[:, left:right], one_row, across])
        x, y = (
            np.hstack([rows[top:bottom] @ part, b * down + c, a * one_column]) @ columns
            for rows, part, (a, b, c) in zip(
                (self.rows_for_x, self.rows), move, matrix.astype(np.float32), strict=True
            )
        )
        return _Places(matrix, size, (x, y))

    def _region(self, layer_map: np.ndarray, move: np.ndarray | None) -> tuple[int, int, int, int]:
        """Where in the frame the layer may be seen: left, top, right, bottom."""
        height, width = self.extent
        back = np.linalg.inv(self.from_half @ np.vstack([layer_map, [0, 0, 1]]) @ self.to_half)
        corners = np.array(
            [[x, y, 1] for x in (-SAMPLED, width + SAMPLED) for y in (-SAMPLED, height + SAMPLED)]
        )
        at = corners @ back[:2].T  # (4, 2)
        further = np.zeros(2)
        if move is not None:
            longest = np.abs(move).max((1, 2)) * 1.5  # a bent edge, in a zoomed layer
            further = longest / (self.to_half[0, 0], self.to_half[1, 1])
        low = np.floor(at.min(0) - further).astype(int)
        high = np.ceil(at.max(0) + further).astype(int) + 1
        rows, columns = self.shape
        return (
            max(0, int(low[0])),
            max(0, int(low[1])),
            min(columns, int(high[0])),
            min(rows, int(high[1])),
        )
