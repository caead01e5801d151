"""The code points of colour (ITU-T H.273) that a file's container holds; Pillow skips them."""

from collections.abc import Iterator
from typing import NamedTuple

_MOST_BOXES = 1000


class CodePoints(NamedTuple):
    primaries: int
    transfer: int
    matrix: int
    full_range: bool


def of_png(data: bytes) -> CodePoints | None:
    """Of the chunk cICP, which stands before PLTE and IDAT (PNG 3, 11.3.2.6)."""
    at = 8
    for _ in range(_MOST_BOXES):
        length, name = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if name == b"cICP" and length == 4:
            primaries, transfer, matrix, full = data[at + 8 : at + 12].ljust(4, b"\0")
            return CodePoints(primaries, transfer, matrix, full != 0)
        if name in (b"IDAT", b"PLTE", b"IEND", b""):
            return None
        at += 12 + length
    return None


def of_heif(data: bytes) -> CodePoints | None:
    """Of the first `colr` box of type nclx in HEIC or AVIF (ISO/IEC 23008-12, 6.5.5)."""
    for meta in _boxes(data, b"meta"):
        for properties in _boxes(meta[4:], b"iprp"):
            for container in _boxes(properties, b"ipco"):
                for colour in _boxes(container, b"colr"):
                    if colour.startswith(b"nclx") and len(colour) >= 11:
                        primaries, transfer, matrix = (
                            int.from_bytes(colour[i : i + 2]) for i in (4, 6, 8)
                        )
                        return CodePoints(primaries, transfer, matrix, colour[10] >= 0x80)
    return None


def _boxes(data: bytes, wanted: bytes) -> Iterator[bytes]:
    """The bodies of the boxes of one type (ISO/IEC 14496-12, 4.2)."""
    at = 0
    for _ in range(_MOST_BOXES):
        size, name, header = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], 8
        if len(name) < 4:
            return
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16]), 16
        elif size == 0:
            size = len(data) - at
        if name == wanted:
            yield data[at + header : at + size]
        if size < header:
            return
        at += size
