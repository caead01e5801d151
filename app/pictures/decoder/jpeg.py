"""What a JPEG's markers say, read without decoding it (ITU-T T.81, annex B)."""

import re
from typing import NamedTuple

from app.pictures.decoder.refused import Refused

# Every scan passes over all blocks again, whether it brings any data or not. Encoders write about
# ten; a thousand fit into 172 kB and took ten seconds.
MAX_SCANS = 100

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
# libjpeg decodes these: baseline, extended, progressive; the last two with arithmetic coding.
_DECODABLE = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_SCAN, _END = 0xDA, 0xD9
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
# Within a scan, FF 00 is data and FF D0 to FF D7 are restarts.
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


class Frame(NamedTuple):
    """The start of frame."""

    process: int  # the marker's second byte
    precision: int  # bits per sample
    sampling: tuple[tuple[int, int], ...]  # horizontal and vertical, per component

    def coefficient_bytes(self, width: int, height: int) -> int:
        """Memory that a progressive picture takes while it is decoded, whatever its scale."""
        if self.process not in _PROGRESSIVE:
            return 0
        widest = max((h for h, _ in self.sampling), default=1)
        tallest = max((v for _, v in self.sampling), default=1)
        samples = sum(
            width * h // max(widest, 1) * (height * v // max(tallest, 1)) for h, v in self.sampling
        )
        return 2 * samples


def inspect(data: bytes) -> Frame | None:
    """Return the start of frame; None if a damaged file has none.

    Raises:
        Refused: image_too_complex for too many scans, unsupported_image_kind for a process or
            precision that cannot be decoded.
    """
    frame, scans, at = None, 0, 2
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 3:
        marker = data[at + 1]
        if marker in (0x00, 0xFF) or marker in _BARE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _END:
            break
        length = int.from_bytes(data[at + 2 : at + 4])
        if marker in _FRAMES and frame is None:
            frame = _frame(marker, data[at + 4 : at + 2 + length])
        at += 2 + max(length, 2)
        if marker == _SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise Refused("image_too_complex")
            following = _AFTER_SCAN.search(data, at)
            if following is None:
                break
            at = following.start()
    return frame


def _frame(marker: int, body: bytes) -> Frame | None:
    if len(body) < 6:
        return None
    if marker not in _DECODABLE or body[0] != 8:
        raise Refused("unsupported_image_kind")
    return Frame(marker, body[0], tuple((b >> 4, b & 15) for b in body[7::3]))
