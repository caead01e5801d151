"""The sizes that a model was trained for, and the one that suits a picture."""

from collections.abc import Iterable
from math import log

from app.domain.job.clip_size import ClipSize


def parse_size(text: str) -> ClipSize:
    """`832x480` as a size: width, then height. Raises ValueError."""
    width, by, height = text.partition("x")
    if not (by and width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise ValueError(f"{text!r} is not WIDTHxHEIGHT in pixels, such as '832x480'")
    size = ClipSize(int(width), int(height))
    if min(size) < 16 or max(size) > 8192 or size.width % 2 or size.height % 2:
        raise ValueError(f"{text!r} must have two even sides of 16 to 8192 pixels")
    return size


def longest_sides(sizes: Iterable[ClipSize]) -> list[int]:
    """What a request may ask for as `size`, ascending."""
    return sorted({max(size) for size in sizes})


def nearest_size(width: int, height: int, longest: int, sizes: Iterable[ClipSize]) -> ClipSize:
    """Of the sizes with this longest side, the one whose shape is nearest to the picture's.

    Shapes are compared as ratios: 2:1 is as far from 1:1 as 1:2 is. Raises ValueError if no size
    has this longest side.
    """
    fitting = [size for size in sizes if max(size) == longest]
    return min(fitting, key=lambda size: abs(log(size.width * height / (size.height * width))))


def cropped_box(width: int, height: int, shape: ClipSize) -> tuple[float, float, float, float]:
    """The largest part of a picture that has this shape, in its middle: left, top, right, bottom.

    What lies outside is cut off: a picture is never stretched.
    """
    scale = min(width / shape.width, height / shape.height)
    wide, high = shape.width * scale, shape.height * scale
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high
