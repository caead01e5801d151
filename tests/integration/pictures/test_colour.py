"""Colours come out right whatever says what they mean; held to arithmetic of the tests' own."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.support.pictures import encode, pixels, png

# Display P3 to sRGB in linear light (CSS Color 4, sample code), and BT.2020 to sRGB (BT.2087).
P3 = np.array([[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]])
BT2020 = np.array(
    [[1.66049, -0.58764, -0.07285], [-0.12455, 1.13290, -0.00835], [-0.01815, -0.10058, 1.11873]]
)
SRGB_CHUNK = (b"sRGB", b"\0")
P3_POINTS = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
P3_CHRM = (b"cHRM", struct.pack(">8I", *P3_POINTS))
P3_CICP = (b"cICP", bytes([12, 13, 0, 1]))
# Neither too dull to tell spaces apart nor outside of sRGB. (6, 8, 3)
COLOURS = 0.25 + 0.5 * np.random.default_rng(5).random((6, 8, 3))


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 * value))


def decoded(v):
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def encoded(light):
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def patches(colours):
    """Squares of 8 x 8 pixels, which JPEG keeps apart."""
    return colours.repeat(8, axis=0).repeat(8, axis=1)


def shown(normaliser, data: bytes) -> np.ndarray:
    return pixels(normaliser.normalise(data))[4::8, 4::8]


def stored(signal, depth: int = 8):
    top = 2**depth - 1
    values = np.rint(signal * top)
    return values, values / top


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_linear_png_is_not_too_dark(normaliser, channels, depth):
    grey = channels < 3
    light = decoded(COLOURS[:, :, :1] if grey else COLOURS)
    if channels in (2, 4):
        light = np.concatenate([light, np.ones((6, 8, 1))], axis=2)
    values, exact = stored(light, depth)
    result = shown(normaliser, png(patches(values), gamma(1.0), depth=depth))
    expected = 255 * encoded(exact[:, :, : 1 if grey else 3])
    assert np.abs(result - expected).max() <= 2.5


def test_the_dark_half_of_a_linear_16_bit_png_keeps_its_shades(normaliser):
    """Its lower eight bits hold 85 of 255 levels; without them these became seven."""
    light = np.linspace(0, 0.02, 48).reshape(6, 8, 1).repeat(3, axis=2)
    values, exact = stored(light, 16)
    result = shown(normaliser, png(patches(values), gamma(1.0), depth=16))
    assert np.abs(result - 255 * encoded(exact)).max() <= 1.5
    assert len(np.unique(result)) > 30


@pytest.mark.parametrize("exponent", [1.0, 0.55556, 0.38462])
def test_gamma_is_applied(normaliser, exponent):
    values, exact = stored(COLOURS)
    result = shown(normaliser, png(patches(values), gamma(exponent)))
    assert np.abs(result - 255 * encoded(exact ** (1 / exponent))).max() <= 2.5


def test_the_gamma_that_encoders_write_for_srgb_changes_nothing(normaliser):
    values, exact = stored(COLOURS)
    assert np.abs(shown(normaliser, png(patches(values), gamma(0.45455))) - 255 * exact).max() <= 2


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("chunks", [[P3_CICP], [P3_CHRM], [gamma(0.45455), P3_CHRM]])
def test_display_p3_is_converted(normaliser, chunks, depth):
    values, exact = stored(COLOURS, depth)
    result = shown(normaliser, png(patches(values), *chunks, depth=depth))
    expected = 255 * encoded(decoded(exact) @ P3.T)
    assert np.abs(result - expected).max() <= 3
    assert np.abs(255 * exact - expected).max() > 10  # the test can tell


def test_linear_light_and_wide_primaries_together(normaliser):
    values, exact = stored(decoded(COLOURS), 16)
    result = shown(normaliser, png(patches(values), (b"cICP", bytes([9, 8, 0, 1])), depth=16))
    assert np.abs(result - 255 * encoded(exact @ BT2020.T)).max() <= 3


def test_narrow_range_is_stretched(normaliser):
    values = np.rint(16 + 219 * COLOURS)
    result = shown(normaliser, png(patches(values), (b"cICP", bytes([1, 13, 0, 0]))))
    assert np.abs(result - 255 * (values - 16) / 219).max() <= 2.5


def test_the_white_of_a_page_is_nearly_white_in_hdr_and_highlights_do_not_clip(normaliser):
    """203 nits are 0.581 in PQ and 0.75 in HLG (ITU-R BT.2408, table 1)."""
    for transfer, white in ((16, 0.581), (18, 0.75)):
        signals = np.array([0.3 * white, white, 1.05 * white, 1.1 * white])
        values = np.rint(255 * signals)[None, :, None].repeat(3, axis=2).repeat(4, axis=0)
        result = shown(normaliser, png(patches(values), (b"cICP", bytes([9, transfer, 0, 1]))))
        dark, page, bright, brighter = result[0, :, 1]
        assert dark < 80 < 240 <= page < bright < brighter <= 255


def icc(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"own\0\0" + zlib.compress(profile)


SRGB_ICC = icc(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
BROKEN_ICC = icc(b"no profile at all" * 9)


@pytest.mark.parametrize(
    ("chunks", "matrix"),
    [
        ([P3_CICP, SRGB_ICC, SRGB_CHUNK, gamma(1.0)], P3),
        ([SRGB_ICC, P3_CHRM, gamma(1.0)], None),
        ([SRGB_CHUNK, P3_CHRM, gamma(1.0)], None),
        # What cannot be used leaves the word to the next.
        ([(b"cICP", bytes([2, 2, 0, 1])), P3_CHRM], P3),
        ([(b"cICP", bytes([12, 13, 1, 1])), SRGB_CHUNK], None),
        ([BROKEN_ICC, P3_CHRM], P3),
        ([(b"cHRM", bytes(32))], None),
        ([gamma(0)], None),
    ],
    ids=["cicp", "icc", "srgb", "cicp unknown", "cicp ycc", "icc broken", "chrm broken", "gamma 0"],
)
def test_the_strongest_word_counts(normaliser, chunks, matrix):
    values, exact = stored(COLOURS)
    result = shown(normaliser, png(patches(values), *chunks))
    expected = 255 * (exact if matrix is None else encoded(decoded(exact) @ matrix.T))
    assert np.abs(result - expected).max() <= 3


def test_palettes_are_converted_too(normaliser):
    colours = (COLOURS[:2, :4] * 255).round()
    flat = Image.fromarray(patches(colours).astype(np.uint8))
    palette = encode(flat.quantize(8))
    at = palette.index(b"PLTE") - 4
    chunk = png(colours, P3_CICP)[33:49]
    result = shown(normaliser, palette[:at] + chunk + palette[at:])
    exact = np.asarray(flat.quantize(8).convert("RGB"))[4::8, 4::8] / 255
    assert np.abs(result - 255 * encoded(decoded(exact) @ P3.T)).max() <= 3


def with_nclx(data: bytes, primaries: int, transfer: int) -> bytes:
    """HEIC or AVIF whose `colr` box says other colours; the matrix stays."""
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


@pytest.mark.parametrize("fmt", ["AVIF", "HEIF"])
def test_display_p3_in_heic_and_avif(normaliser, fmt):
    options = {
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        "HEIF": {"quality": -1, "chroma": 444},
    }
    image = Image.fromarray(np.rint(255 * patches(COLOURS)).astype(np.uint8))
    data = encode(image, fmt, **options[fmt])
    exact = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[4::8, 4::8] / 255
    result = shown(normaliser, with_nclx(data, 12, 13))
    assert np.abs(result - 255 * encoded(decoded(exact) @ P3.T)).max() <= 3
