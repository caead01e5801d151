"""Pictures in kinds that Pillow reads but does not write, and what a normaliser makes of them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from app.domain.errors import BadRequest
from app.pictures.normaliser import Normaliser, Picture


def encode(image: Image.Image, fmt: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def pixels(picture: Picture) -> np.ndarray:
    """(H, W, 3), as signed integers."""
    image = Image.open(io.BytesIO(picture.data))
    assert (image.format, image.mode, image.size) == (
        "JPEG",
        "RGB",
        (picture.width, picture.height),
    )
    return np.asarray(image).astype(int)


def refusal(normaliser: Normaliser, data: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        normaliser.normalise(data)
    assert 400 <= caught.value.status < 500
    return caught.value.code


def png(samples: np.ndarray, *chunks: tuple[bytes, bytes], depth: int = 8) -> bytes:
    """A PNG of `samples`, (H, W, channels); `chunks` stand before its data."""
    height, width, channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    if depth < 8:
        bits = np.unpackbits(samples.astype(np.uint8).reshape(height, -1, 1), axis=2)
        rows = np.packbits(bits[:, :, 8 - depth :].reshape(height, -1), axis=1)
    else:
        rows = samples.astype(f">u{depth // 8}").reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def tiff(
    samples: np.ndarray,
    *,
    photometric: int,
    order: str = "<",
    planar: bool = False,
    rows_per_strip: int = 1 << 20,
    sample_format: int = 1,
    deflate: bool = False,
    extra: tuple[int, ...] = (),
) -> bytes:
    """A TIFF of `samples`, (H, W, channels), stored as they are (TIFF 6.0)."""
    height, width, channels = samples.shape
    stored = samples.astype(samples.dtype.newbyteorder(order))
    planes = [stored[:, :, [c]] for c in range(channels)] if planar else [stored]
    strips = [
        plane[y : y + rows_per_strip].tobytes()
        for plane in planes
        for y in range(0, height, rows_per_strip)
    ]
    if deflate:
        strips = [zlib.compress(strip) for strip in strips]
    at = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    tags = {
        256: [width],
        257: [height],
        258: [8 * samples.dtype.itemsize] * channels,
        259: [8 if deflate else 1],
        262: [photometric],
        273: at,
        277: [channels],
        278: [min(rows_per_strip, height)],
        279: [len(strip) for strip in strips],
        284: [2 if planar else 1],
        339: [sample_format] * channels,
    }
    if extra:
        tags[338] = list(extra)
    longs, entries = b"", b""
    start = 8 + sum(map(len, strips))
    after = start + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        body = struct.pack(f"{order}{len(values)}I", *values)
        field = body
        if len(values) > 1:
            field = struct.pack(order + "I", after + len(longs))
            longs += body
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + field
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    count = struct.pack(order + "H", len(tags))
    return head + b"".join(strips) + count + entries + bytes(4) + longs
