"""A small JPEG that takes long to decode."""

import struct

SCANS = 1000
SIDE = 7000  # 49 megapixels, just below the service's limit
RUN = 32_767  # blocks that one end-of-band code can skip


def many_scans(side: int = SIDE, scans: int = SCANS) -> bytes:
    """A grey progressive JPEG of `scans` scans, about 170 kB at the defaults.

    Every scan but the first says that all coefficients of one frequency are zero (ITU-T T.81,
    G.1.2.2: EOBn), in some 60 bytes. A decoder visits every block for each of them.
    """
    blocks = ((side + 7) // 8) ** 2
    parts = [
        b"\xff\xd8",
        _segment(0xDB, b"\x00" + bytes([1] * 64)),
        _segment(0xC2, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0)),
        _one_code(0x00, 0),  # DC: the difference to the block before is zero
        _one_code(0x10, 0xE0),  # AC: EOB14
        _scan(0, 0, 0),
        _packed([(0, 1)] * blocks),
    ]
    runs = _packed([(RUN - 16_384, 15)] * -(-blocks // RUN))  # the code's one bit, then 14 more
    for n in range(scans - 1):
        band, bit = 1 + n // 14 % 63, n % 14
        # A first pass at bit 13, then thirteen refinements: the order that the standard asks for.
        parts += [_scan(band, 0 if bit == 0 else 14 - bit, 13 - bit), runs]
    return b"".join([*parts, b"\xff\xd9"])


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _one_code(table: int, value: int) -> bytes:
    """A Huffman table of one code, the bit 0."""
    return _segment(0xC4, bytes([table, 1, *[0] * 15, value]))


def _scan(band: int, high: int, low: int) -> bytes:
    return _segment(0xDA, bytes([1, 1, 0, band, band, high << 4 | low]))


def _packed(codes: list[tuple[int, int]]) -> bytes:
    """(value, bits) as entropy-coded data: padded with ones, and 0xFF followed by 0x00."""
    bits = "".join(f"{value:0{count}b}" for value, count in codes)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
