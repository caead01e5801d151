"""From any depth and layout of pixels to eight bits per channel."""

import io
import math
from typing import cast

from PIL import Image, ImageChops

from app.pictures.decoder import tiff
from app.pictures.decoder.colour import Space
from app.pictures.decoder.refused import Refused

_TOP_16 = 65_535
_PNG_DEPTH, _PNG_KIND = 24, 25  # offsets in the file
_PNG_GREY, _PNG_GREY_ALPHA = 0, 4


def eight_bits(image: Image.Image, data: bytes, space: Space) -> Image.Image:
    """Convert to L, RGB, RGBA or CMYK, the modes that can be resampled.

    Raises:
        Refused: unsupported_image_kind.
    """
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        deep = _grey16 if mode.startswith("I;16") else _stretched
        grey = deep(image, space)
        return ImageChops.invert(grey) if tiff.is_negative(image) else grey
    if image.format == "PNG":
        depth, kind = data[_PNG_DEPTH], data[_PNG_KIND]
        if depth == 16 and (space.table(_TOP_16) or "transparency" in image.info):
            return _png16(image, data, space)
        if kind == _PNG_GREY and depth in (2, 4) and "transparency" in image.info:
            # Pillow has spread the samples over 0 to 255, but not the transparent one.
            image.info["transparency"] *= 255 // (2**depth - 1)
    try:
        if mode == "La":
            image = image.convert("LA")
        if image.has_transparency_data:
            image = image.convert("RGBA")
        elif mode not in ("L", "RGB", "CMYK"):
            image = image.convert("L" if mode == "1" else "RGB")
    except ValueError as error:
        raise Refused("unsupported_image_kind") from error
    return _curved(image, space)


def _curved(image: Image.Image, space: Space) -> Image.Image:
    table = space.table(255)
    if table is None or image.mode == "CMYK":
        return image
    alpha = list(range(256)) if image.mode == "RGBA" else []
    return image.point(table * (len(image.getbands()) - bool(alpha)) + alpha)


def _grey16(image: Image.Image, space: Space) -> Image.Image:
    table = space.table(_TOP_16) or _PROPORTIONAL_16
    values = image.convert("I")
    grey = values.point(table, "L")
    hole = image.info.get("transparency")
    if not isinstance(hole, int):
        return grey
    alpha = values.point([0 if v == hole else 255 for v in range(_TOP_16 + 1)], "L")
    return Image.merge("RGBA", (grey, grey, grey, alpha))


_PROPORTIONAL_16 = [round(v * 255 / _TOP_16) for v in range(_TOP_16 + 1)]


def _png16(image: Image.Image, data: bytes, space: Space) -> Image.Image:
    """16 bits of grey with alpha or of colour, of which Pillow has read the upper eight.

    A linear picture has half of its shades in the lower bits.
    """
    table = space.table(_TOP_16) or _PROPORTIONAL_16
    if data[_PNG_KIND] == _PNG_GREY_ALPHA:
        upper, lower, alpha, _ = _png_as(data, "RGBA").split()
        grey = _joined(upper, lower).point(table, "L")
        return Image.merge("RGBA", (grey, grey, grey, alpha))
    # Taken for little-endian, a sample's second byte is the upper one.
    layout = f"{image.mode};16L"
    pairs = zip(image.split()[:3], _png_as(data, layout).split()[:3], strict=True)
    bands = [_joined(upper, lower) for upper, lower in pairs]
    levels = [band.point(table, "L") for band in bands]
    hole = image.info.get("transparency")
    if image.mode == "RGBA":
        alpha = image.getchannel("A")
    elif isinstance(hole, tuple):
        differs = [
            band.point([0 if v == own else 255 for v in range(_TOP_16 + 1)], "L")
            for band, own in zip(bands, hole, strict=True)
        ]
        alpha = ImageChops.lighter(ImageChops.lighter(differs[0], differs[1]), differs[2])
    else:
        return Image.merge("RGB", levels)
    return Image.merge("RGBA", (*levels, alpha))


def _png_as(data: bytes, layout: str) -> Image.Image:
    """A PNG whose pixels are taken for another layout of as many bytes."""
    image = Image.open(io.BytesIO(data), formats=["PNG"])
    image.tile = [tile._replace(args=layout) for tile in image.tile]
    image.load()
    return image


def _joined(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """16-bit values, as mode I, of their upper and lower bytes."""
    values = bytearray(2 * upper.width * upper.height)
    values[0::2], values[1::2] = upper.tobytes(), lower.tobytes()
    return Image.frombytes("I;16B", upper.size, bytes(values)).convert("I")


def _stretched(image: Image.Image, space: Space) -> Image.Image:
    """Scale 32-bit integer or float grey from 0..maximum; no header states its range."""
    low, high = cast(tuple[float, float], image.getextrema())  # single band
    if low < 0 and tiff.is_unsigned(image):
        # The upper bit is set somewhere, so the upper half of the bits has all shades.
        image = tiff.upper_half(image).convert("I")
        low, high = cast(tuple[float, float], image.getextrema())
    low = min(0, low)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Refused("unsupported_image_kind")
    scale = 255 / (high - low) if high > low else 0.0
    return image.point(lambda v: v * scale - low * scale).convert("L")
