"""Rare kinds of the supported formats: decoded right, or refused with the true reason."""

import io
import itertools
import struct

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import encode, pixels, png, refusal, tiff

WHITE = (255, 255, 255)
RAMP = np.linspace(0, 1, 64)
# Red rises and green falls to the right, blue rises downwards. (32, 64, 3)
SLOPES = np.stack(np.broadcast_arrays(RAMP[None, :], RAMP[::-1][None, :], RAMP[:32, None]), axis=-1)


def grey(dtype) -> np.ndarray:
    top = 1 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    values = RAMP * top
    values = values if np.issubdtype(dtype, np.floating) else np.rint(values)
    return np.tile(values.astype(dtype), (32, 1))[:, :, None]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
def test_planes_of_a_tiff_are_put_together(normaliser, bits, order):
    dtype = np.dtype(f"u{bits // 8}")
    samples = np.rint(SLOPES * np.iinfo(dtype).max).astype(dtype)
    opaque = np.full((32, 64, 1), np.iinfo(dtype).max, dtype)
    for deflate, rows, alpha in itertools.product((False, True), (7, 1000), (False, True)):
        given = np.concatenate([samples, opaque], axis=2) if alpha else samples
        data = tiff(
            given,
            photometric=2,
            order=order,
            planar=True,
            deflate=deflate,
            rows_per_strip=rows,
            extra=(2,) if alpha else (),
        )
        error = np.abs(pixels(normaliser.normalise(data)) - 255 * SLOPES).max()
        assert error <= 8, (deflate, rows, alpha)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(
    ("kind", "sample_format", "white_is_zero"),
    [
        *(("u1", 1, zero) for zero in (False, True)),
        *(("u2", 1, zero) for zero in (False, True)),
        *(("f4", 3, zero) for zero in (False, True)),
        ("i2", 2, False),
        ("i4", 2, False),
    ],
)
def test_grey_tiffs_are_no_negatives(
    normaliser, kind, sample_format, white_is_zero, order, deflate
):
    data = tiff(
        grey(np.dtype(kind)),
        photometric=0 if white_is_zero else 1,
        sample_format=sample_format,
        order=order,
        deflate=deflate,
    )
    expected = 255 * (RAMP[::-1] if white_is_zero else RAMP)
    assert np.abs(pixels(normaliser.normalise(data))[16] - expected[:, None]).max() <= 4


def test_the_upper_half_of_unsigned_32_bits_is_not_negative(normaliser):
    data = tiff(grey(np.dtype("u4")), photometric=1)
    assert np.abs(pixels(normaliser.normalise(data))[16] - 255 * RAMP[:, None]).max() <= 4


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_transparent(normaliser, depth):
    top = 2**depth - 1
    values = np.zeros((64, 64, 1), int)
    values[:, 32:] = hole = (3 * top + 2) // 5 if depth > 1 else 1
    data = png(values, (b"tRNS", struct.pack(">H", hole)), depth=depth)
    result = pixels(normaliser.normalise(data, background=(10, 200, 30)))
    assert np.abs(result[:, :24]).max() <= 6
    assert np.abs(result[:, 40:] - (10, 200, 30)).max() <= 6


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_a_png_is_transparent(normaliser, depth):
    top = 2**depth - 1
    hole = np.rint(np.array([0.3, 0.6, 0.9]) * top).astype(int)
    values = np.full((64, 96, 3), top // 2)
    values[:, 32:64] = hole
    if depth == 16:
        values[:, 64:] = hole + np.array([0, 0, 1])  # differs in the lower byte only: visible
    data = png(values, (b"tRNS", struct.pack(">3H", *hole)), depth=depth)
    result = pixels(normaliser.normalise(data, background=(10, 200, 30)))
    assert np.abs(result[:, 40:56] - (10, 200, 30)).max() <= 6
    if depth == 16:
        assert np.abs(result[:, 72:] - 255 * np.array([0.3, 0.6, 0.9])).max() <= 6


def jpeg_of(photo: bytes, *, precision: int = 8, process: int = 0xC0) -> bytes:
    at = photo.index(b"\xff\xc0")
    return (
        photo[: at + 1]
        + bytes([process])
        + photo[at + 2 : at + 4]
        + bytes([precision])
        + photo[at + 5 :]
    )


def test_what_cannot_be_decoded_is_not_called_damaged(normaliser, photo):
    unsupported = {
        "12-bit JPEG": jpeg_of(photo, precision=12, process=0xC1),
        "lossless JPEG": jpeg_of(photo, process=0xC3),
        "float RGB": tiff(SLOPES.astype("f4"), photometric=2, sample_format=3),
        "half float": tiff(grey(np.dtype("f2")), photometric=1, sample_format=3),
        "double": tiff(grey(np.dtype("f8")), photometric=1, sample_format=3),
        "64-bit integers": tiff(np.zeros((32, 64, 1), "u8"), photometric=1),
        "16-bit grey with alpha": tiff(
            grey(np.dtype("u2")).repeat(2, 2), photometric=1, extra=(2,)
        ),
        "planar CMYK of 16 bits": tiff(
            grey(np.dtype("u2")).repeat(4, 2), photometric=5, planar=True
        ),
        "unknown compression": tiff(grey(np.dtype("u1")), photometric=1).replace(
            struct.pack("<HHII", 259, 4, 1, 1), struct.pack("<HHII", 259, 4, 1, 40_000)
        ),
    }
    reasons = {name: refusal(normaliser, data) for name, data in unsupported.items()}
    assert set(reasons.values()) == {"unsupported_image_kind"}, reasons


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_a_jpeg_that_lacks_only_its_end_mark_is_whole(normaliser, photo, options):
    data = encode(Image.open(io.BytesIO(photo)), "JPEG", quality=90, **options)
    whole = normaliser.normalise(data)
    for cut in (data[:-2], data[:-1], data[:-2] + bytes(40)):
        assert normaliser.normalise(cut) == whole
    for lost in (20, len(data) // 10, len(data) // 2):
        assert refusal(normaliser, data[:-lost]) == "truncated_image"


@pytest.mark.parametrize(("fmt", "end"), [("PNG", 12), ("GIF", 1)])
def test_other_end_marks_may_be_missing_too(normaliser, fmt, end):
    data = encode(Image.new("RGB", (64, 48), (200, 40, 40)), fmt)
    assert normaliser.normalise(data[:-end]) == normaliser.normalise(data)


@pytest.mark.parametrize(
    ("size", "progressive"), [((12_000, 9_000), False), ((9_000, 6_000), True)]
)
def test_a_phone_s_108_megapixels_are_scaled_while_they_are_decoded(normaliser, size, progressive):
    image = Image.new("L", size, 40)
    image.paste(220, (size[0] // 2, 0, *size))
    data = encode(image, "JPEG", quality=50, progressive=progressive)
    picture = normaliser.normalise(data, max_side=1024)
    assert picture.width == 1024
    assert np.abs(pixels(picture)[384, (256, 768), 0] - (40, 220)).max() <= 3


XMP = (
    b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF>"
    b'<rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("with_exif", [False, True])
def test_an_orientation_in_xmp_alone_is_ignored(normaliser, fmt, with_exif):
    """Browsers do, so that is how the sender saw the picture."""
    packet = XMP.partition(b"\0")[2]
    image = Image.new("RGB", (96, 64), (200, 40, 40))
    options = {"exif": Image.Exif()} if with_exif else {}
    if with_exif:
        options["exif"][0x010F] = "A camera"
    if fmt == "PNG":
        at = 33
        data = encode(image, **options)
        chunk = png(np.zeros((1, 1, 1)), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
        end = chunk.index(b"IDAT") - 4
        data = data[:at] + chunk[33:end] + data[at:]
    elif fmt == "TIFF":
        data = encode(image, fmt, tiffinfo={700: packet})
    else:
        data = encode(image, fmt, xmp=packet, **options)
    assert b"Orientation" in data
    picture = normaliser.normalise(data)
    assert (picture.width, picture.height) == (96, 64)


def test_heic_is_turned_by_its_container_alone(normaliser):
    """Its EXIF is a copy of what the container says; browsers and phones ignore it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.new("RGB", (96, 64), (200, 40, 40)), "HEIF", exif=exif.tobytes())
    assert b"irot" in data
    for given, size in ((data, (64, 96)), (data.replace(b"irot", b"free"), (96, 64))):
        picture = normaliser.normalise(given)
        assert (picture.width, picture.height) == size


def test_alpha_in_heic_and_avif_is_laid_on_the_background(normaliser):
    image = Image.new("RGBA", (96, 64), (200, 40, 40, 255))
    image.paste((0, 0, 0, 0), (48, 0, 96, 64))
    for fmt in ("AVIF", "HEIF"):
        picture = normaliser.normalise(encode(image, fmt, quality=90), background=(10, 200, 30))
        row = pixels(picture)[32]
        assert np.abs(row[20] - (200, 40, 40)).max() <= 12, fmt
        assert np.abs(row[76] - (10, 200, 30)).max() <= 12, fmt
