"""The size of a clip, from that of its picture."""

from typing import NamedTuple


class ClipSize(NamedTuple):
    """Pixels; both even, because H.264 with 4:2:0 has no half chroma samples."""

    width: int
    height: int


def clip_size(width: int, height: int, longest: int) -> ClipSize:
    """The clip of a picture of width x height pixels whose longest side is to be `longest`.

    A picture is shrunk, never enlarged. An odd side of an unshrunk picture gets one more pixel; of
    a shrunk one, up to two pixels are cut (see `shown_box`), so that nothing is stretched.
    """
    given = max(width, height)
    if given <= longest:
        return ClipSize(width + width % 2, height + height % 2)
    side = longest // 2 * 2
    return ClipSize(*(max(2, number * side // given // 2 * 2) for number in (width, height)))


def shown_box(width: int, height: int, clip: ClipSize) -> tuple[float, float, float, float]:
    """The part of the picture that its shrunk clip shows: left, top, right, bottom, in pixels.

    It lies in the middle and has the clip's aspect ratio, unless a side is shorter than two pixels
    of the clip.
    """
    per_pixel = max(width, height) / max(clip)
    wide, high = min(width, clip.width * per_pixel), min(height, clip.height * per_pixel)
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high
