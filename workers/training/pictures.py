"""The picture of a scene: colours, the matte of its subject, and where water and foliage are.

Half of the pictures of a training are drawn (procedural.py); the others are photos, or cut-outs of
photos in front of other photos (photos.py). Both go through the same augmentation here.
"""

from dataclasses import dataclass, replace

import numpy as np

from workers.training.scenery import PICTURE

# Shares of the pictures.
LETTERBOXED = 0.5
WORN_MATTE = 0.5
GREY = 0.05


@dataclass(frozen=True)
class Picture:
    """Arrays of PICTURE x PICTURE float32 in [0, 1]; `colours` has three of them in front."""

    colours: np.ndarray  # (3, p, p)
    matte: np.ndarray
    water: np.ndarray
    foliage: np.ndarray
    lower_edge: float = 1.0  # y of the picture's own lower edge, in half sides


def augmented(picture: Picture, rng: np.random.Generator) -> Picture:
    """Mirrored, coloured and cut differently, with the matte that a network might find."""
    if rng.random() < 0.5:
        areas = (picture.colours, picture.matte, picture.water, picture.foliage)
        colours, matte, water, foliage = (np.ascontiguousarray(part[..., ::-1]) for part in areas)
        picture = Picture(colours, matte, water, foliage, picture.lower_edge)
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.9, 1.1, (3, 1, 1))
    colours = (picture.colours - 0.5) * rng.uniform(0.7, 1.2) + 0.5
    colours = np.clip(colours * gain, 0, 1).astype(np.float32)
    if rng.random() < GREY:
        colours = np.broadcast_to(colours.mean(0, keepdims=True), colours.shape).copy()
    matte = picture.matte
    if rng.random() < WORN_MATTE:
        matte = worn(matte, rng)
    picture = replace(picture, colours=colours, matte=matte)
    return letterboxed(picture, rng) if rng.random() < LETTERBOXED else picture


def worn(matte: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A matte with the faults of one that was estimated: too wide, too narrow, or soft."""
    soft = box_blur(matte, int(rng.integers(1, 3)))
    shift = rng.uniform(-0.3, 0.3)
    worn = np.clip((soft - 0.5 - shift) * rng.uniform(1.5, 5) + 0.5, 0, 1)
    return worn.astype(np.float32)


def letterboxed(picture: Picture, rng: np.random.Generator) -> Picture:
    """As a picture that is not square appears in its square: mirrored beyond its edges.

    The matte ends there: what is mirrored is no subject.
    """
    half = round(PICTURE / 2 * rng.choice([0.5625, 0.667, 0.75, rng.uniform(0.5, 1)]))
    first, last = PICTURE // 2 - half, PICTURE // 2 + half
    axis = int(rng.integers(1, 3))
    at = np.arange(PICTURE) - first
    width = last - first
    at = at % (2 * width)
    at = first + np.minimum(at, 2 * width - 1 - at)

    def mirrored(part: np.ndarray) -> np.ndarray:
        taken: np.ndarray = np.take(part, at, axis=axis - 3)
        return taken

    inside = np.zeros(PICTURE, np.float32)
    inside[first:last] = 1
    inside = inside[:, None] if axis == 1 else inside[None]
    return Picture(
        mirrored(picture.colours),
        picture.matte * inside,
        mirrored(picture.water),
        mirrored(picture.foliage),
        2 * last / PICTURE - 1 if axis == 1 else 1.0,
    )


def box_blur(area: np.ndarray, reach: int) -> np.ndarray:
    """Means over squares of 2 reach + 1 pixels, the edge repeated."""
    for axis in (0, 1):
        padded = np.pad(area, [(reach + 1, reach) if a == axis else (0, 0) for a in (0, 1)], "edge")
        sums = np.cumsum(padded, axis)
        n = 2 * reach + 1
        area = (
            np.take(sums, range(n, sums.shape[axis]), axis)
            - np.take(sums, range(sums.shape[axis] - n), axis)
        ) / n
    return area
