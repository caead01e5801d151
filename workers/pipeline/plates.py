"""A picture taken apart: its background, filled in where it is uncovered, and its subject, cut out.

Both are stored as what a frame is sampled from: 8-bit planes, RGB or YUV 4:2:0, with a margin.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from workers.pipeline.alpha import refined
from workers.pipeline.beyond import Margins, widened
from workers.pipeline.fill import fill
from workers.pipeline.yuv import LEFT, subsampled, to_yuv420

STEPS_PER_HALF_SIDE = 32  # a reach is rounded up to such steps, so that like clips share plates
REFERENCE = 512  # the longest side, in pixels, that the lengths below are meant for
# The matte's edge is not exact to the pixel. So the subject takes a rim along, which fades out:
# what the background keeps of it would stay behind as an outline.
RIM = 3.0
SOLID = 0.3  # the rim starts where the matte falls below
LEAST_ALPHA = 0.02
ALPHA_LEVELS = 128  # what an alpha of 1 counts where a picture is continued: grey levels


class Reach(NamedTuple):
    """How far a clip looks beyond each edge of the picture, and behind the subject.

    In steps of 1 / STEPS_PER_HALF_SIDE half sides.
    """

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0
    behind: int = 0

    @classmethod
    def of(cls, *half_sides: float) -> "Reach":
        return cls(*(max(0, math.ceil(x * STEPS_PER_HALF_SIDE - 1e-6)) for x in half_sides))

    def widened(self, other: "Reach") -> "Reach":
        return Reach(*(max(a, b) for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Plane:
    """Samples (h, w, C) uint8 of one resolution."""

    samples: np.ndarray
    left: int  # samples before the picture's first column; negative: cropped
    top: int
    sited: float  # samples lie so far right of their middles, in samples


@dataclass(frozen=True)
class Plates:
    """What the frames of a clip are made of. Without a subject, the background is everything."""

    background: tuple[Plane, ...]
    subject: tuple[Plane, ...]  # colours times alpha, then alpha
    sizes: tuple[tuple[int, int], ...]  # height and width of the picture itself, in each plane

    @classmethod
    def of(
        cls,
        picture: np.ndarray,
        matte: np.ndarray | None,
        ground: Reach,
        body: Reach,
        *,
        yuv: bool,
    ) -> "Plates":
        """Take a picture (H, W, 3) uint8 apart.

        matte: of its subject, at any size; None: it has none. ground and body: how far the
        background and the subject are seen beyond the edges.
        """
        picture = _even(picture) if yuv else picture
        height, width = picture.shape[:2]
        core = None if matte is None else refined(matte, picture)
        if core is None or not (core > SOLID).any():
            canvas = _Canvas(picture, None, ground, Reach())
            return cls(canvas.planes(canvas.background(), yuv), (), _sizes(height, width, yuv))
        canvas = _Canvas(picture, core, ground, _where_cut(core, body))
        behind = canvas.background()
        return cls(
            canvas.planes(behind, yuv),
            canvas.subject(behind, yuv),
            _sizes(height, width, yuv),
        )


class _Canvas:
    """The picture with margins all round, and its alpha."""

    def __init__(self, picture: np.ndarray, core: np.ndarray | None, ground: Reach, body: Reach):
        """core (H, W): the subject's matte, without its rim."""
        height, width = picture.shape[:2]
        longest = max(height, width)
        self.unit = longest / REFERENCE
        self.behind = ground.behind * longest / 2 / STEPS_PER_HALF_SIDE
        near = _pixels(ground, longest)
        wide = Margins(*(max(a, b) for a, b in zip(near, _pixels(body, longest), strict=True)))
        self.left, self.top = wide.left, wide.top
        # Beyond the background's own margins, only the subject is seen.
        left, top, right, bottom = (a - b for a, b in zip(wide, near, strict=True))
        self.seen = np.zeros(
            (height + self.top + wide.bottom, width + self.left + wide.right), bool
        )
        self.seen[top : self.seen.shape[0] - bottom, left : self.seen.shape[1] - right] = True
        self.core = self.alpha = None
        if core is None:
            self.picture = widened(picture, wide)
        else:
            # The subject goes on beyond the border as the picture does.
            whole = widened(np.dstack([picture, ALPHA_LEVELS * core]), wide)
            self.picture = whole[..., :3]
            self.core = whole[..., 3] / ALPHA_LEVELS
            self.alpha = _feathered(self.core, self.unit)
        self.picture = self.picture.round().astype(np.uint8)

    def background(self) -> np.ndarray:
        """The canvas without the subject, as far as it is seen; RGB."""
        if self.alpha is None or self.core is None:
            return self.picture
        covered = _grown(self.alpha > 0, 1)
        depth = cv2.distanceTransform(covered.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        # The mixed rim, what is uncovered, and as much again as the sampling reaches.
        hole = covered & self.seen & (depth <= self.behind + 4 * RIM * self.unit)
        filled = fill(self.picture, hole, ~self.seen | (covered & ~hole)).copy()
        # Where the rim fades out, the picture itself is the best background.
        rim = (self.core < LEAST_ALPHA) & hole
        own = np.square(1 - self.alpha[rim])[:, None]
        filled[rim] = (own * self.picture[rim] + (1 - own) * filled[rim]).round()
        # A background that leaves the subject a colour: else layers at rest would not give the
        # picture again.
        mixed = (self.alpha > 0) & (self.alpha < 0.98)
        share, seen_there = self.alpha[mixed][:, None], self.picture[mixed].astype(np.float32)
        low, high = (seen_there - 255 * share) / (1 - share), seen_there / (1 - share)
        filled[mixed] = np.clip(filled[mixed], low, high).round().clip(0, 255)
        return filled

    def planes(self, pixels: np.ndarray, yuv: bool) -> tuple[Plane, ...]:
        return tuple(
            Plane(samples, self.left >> shift, self.top >> shift, sited)
            for samples, shift, sited in _split(pixels, yuv)
        )

    def subject(self, behind: np.ndarray, yuv: bool) -> tuple[Plane, ...]:
        """The subject's colours, freed of the background behind it, times alpha; and alpha.

        At rest, over that background, they give the picture again.
        """
        assert self.alpha is not None
        alpha = self.alpha
        rows, columns = (np.flatnonzero((alpha > 0).any(axis)) for axis in (1, 0))
        top, left = (max(0, line[0] - 4) // 2 * 2 for line in (rows, columns))
        bottom, right = (line[-1] + 5 + (line[-1] + 5) % 2 for line in (rows, columns))
        crop = (slice(top, bottom), slice(left, right))
        planes = []
        for (mixed, shift, sited), (back, _, _), share in zip(
            _split(self.picture[crop], yuv),
            _split(behind[crop], yuv),
            _alphas(alpha[crop], yuv),
            strict=True,
        ):
            samples = np.concatenate([_unmixed(mixed, back, share), share[..., None] * 255], -1)
            planes.append(
                Plane(
                    np.ascontiguousarray(samples.round().astype(np.uint8)),
                    (self.left - left) >> shift,
                    (self.top - top) >> shift,
                    sited,
                )
            )
        return tuple(planes)


def _unmixed(mixed: np.ndarray, back: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The subject's share of mixed samples (h, w, C), float32: its colour times alpha.

    The colour is that of mixed = alpha colour + (1 - alpha) back, if there is such a colour.
    """
    share = alpha[..., None]
    unmixed: np.ndarray = np.clip(mixed - (1 - share) * back.astype(np.float32), 0, 255 * share)
    return unmixed


def _feathered(alpha: np.ndarray, unit: float) -> np.ndarray:
    """A matte (H, W) with a rim that fades out. unit: pixels per pixel of REFERENCE."""
    outside = (alpha < SOLID).astype(np.uint8)
    away = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_5)
    rim = max(2.0, RIM * unit)
    feathered: np.ndarray = np.maximum(alpha, np.clip(1 - away / rim, 0, 1))
    return feathered


def _split(pixels: np.ndarray, yuv: bool) -> list[tuple[np.ndarray, int, float]]:
    """Planes (h, w, C) uint8 of RGB pixels, with their shift of coordinates and their siting."""
    if not yuv:
        return [(np.ascontiguousarray(pixels), 0, 0.0)]
    luma, chroma = to_yuv420(pixels)
    parts = [part.byte().permute(1, 2, 0).contiguous().numpy() for part in (luma, chroma)]
    return [(parts[0], 0, 0.0), (parts[1], 1, LEFT)]


def _alphas(alpha: np.ndarray, yuv: bool) -> list[np.ndarray]:
    return [alpha, subsampled(alpha)] if yuv else [alpha]


def _sizes(height: int, width: int, yuv: bool) -> tuple[tuple[int, int], ...]:
    return ((height, width), (height // 2, width // 2)) if yuv else ((height, width),)


def _even(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _pixels(reach: Reach, longest: int) -> tuple[int, int, int, int]:
    """Margins in pixels, even, with what the sampler reads beyond a position."""
    sides = (steps * longest / 2 / STEPS_PER_HALF_SIDE for steps in reach[:4])
    left, top, right, bottom = (math.ceil((x + 3) / 2) * 2 if x else 0 for x in sides)
    return left, top, right, bottom


def _where_cut(alpha: np.ndarray, reach: Reach) -> Reach:
    """The reach at the sides that cut the subject off; elsewhere nothing of it lies beyond."""
    edges = (alpha[:, 0], alpha[0], alpha[:, -1], alpha[-1])
    return Reach(
        *(
            steps if edge.max() > LEAST_ALPHA else 0
            for steps, edge in zip(reach[:4], edges, strict=True)
        )
    )


def _grown(mask: np.ndarray, radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    grown: np.ndarray = cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)
    return grown
