"""What a picture's numbers mean, and their conversion to sRGB."""

import contextlib
import functools
import io
from dataclasses import dataclass
from typing import cast

from PIL import Image, ImageChops, ImageCms

from app.pictures.decoder import containers, primaries, transfer
from app.pictures.decoder.containers import CodePoints
from app.pictures.decoder.primaries import Primaries
from app.pictures.decoder.transfer import Transfer

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# 16 levels each of red, green and blue.
_SHADES = Image.frombytes(
    "RGB", (64, 64), bytes(17 * (i >> s & 15) for i in range(4096) for s in (0, 4, 8))
)
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")
# Encoders write this gAMA for sRGB itself, whose curve it resembles (PNG 3, table 17).
_GAMMA_OF_SRGB, _TOLERANCE = 0.45455, 0.01


@dataclass(frozen=True)
class Space:
    """A colour space. Without arguments it is sRGB.

    `transfer` is applied to all bits that a picture has, before they become eight; the rest to
    eight bits.
    """

    transfer: Transfer | None = None  # None: sRGB's
    full_range: bool = True
    profile: bytes | None = None  # ICC, for what `transfer` leaves

    def table(self, top: int) -> list[int] | None:
        """The sRGB level of each value from 0 to `top`; None: proportional."""
        if self.transfer is None and self.full_range:
            return None
        return transfer.table(self.transfer, top, self.full_range)

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """Convert eight bits of grey, RGB or CMYK to sRGB."""
        if self.profile:
            mode, conversion = _conversion(self.profile)
            if conversion is not None:
                # A profile can be damaged where only its use shows it.
                with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
                    image = image if image.mode == mode else image.convert(mode)
                    return _applied(image, conversion)
        return image if image.mode == "RGB" else image.convert("RGB")


def announced(image: Image.Image, data: bytes, fmt: str) -> Space:
    """The space that the file announces; the strongest word that can be understood counts.

    PNG: cICP, iCCP, sRGB, then gAMA with cHRM (PNG 3, 4.3). HEIC and AVIF: ICC, then nclx. Others:
    ICC. As browsers do, what is damaged or does not fit is ignored.
    """
    if fmt == "PNG":
        points = containers.of_png(data)
        if points is not None and points.matrix == 0 and (space := _coded(points)) is not None:
            return space
    profile = image.info.get("icc_profile")
    if profile and _fits(profile, image.mode):
        return Space(profile=profile)
    if fmt == "PNG" and "srgb" not in image.info:
        return _measured(image.info.get("gamma"), image.info.get("chromaticity"))
    if fmt in ("AVIF", "HEIF"):
        points = containers.of_heif(data)
        if points is not None:
            # The codec has made RGB of full range from whatever it was.
            return _coded(points._replace(full_range=True)) or Space()
    return Space()


def _coded(points: CodePoints) -> Space | None:
    """The space of code points; None: unspecified, reserved or not a picture's."""
    if points.primaries not in primaries.BY_CODE or points.transfer not in transfer.BY_CODE:
        return None
    return _space(
        primaries.BY_CODE[points.primaries], transfer.BY_CODE[points.transfer], points.full_range
    )


def _measured(gamma: float | None, chromaticity: tuple[float, ...] | None) -> Space:
    """The space of gAMA and cHRM; sRGB stands in for the one that is missing."""
    curve = None
    if gamma and 0.1 <= gamma <= 10 and abs(gamma / _GAMMA_OF_SRGB - 1) > _TOLERANCE:
        curve = transfer.Gamma(1 / gamma)
    own = primaries.SRGB
    if chromaticity is not None:
        white, red, green, blue = zip(chromaticity[::2], chromaticity[1::2], strict=True)
        own = Primaries(red, green, blue, white)
    try:
        return _space(own, curve, full_range=True)
    except ValueError:
        return Space(curve)


def _space(own: Primaries, curve: Transfer | None, full_range: bool) -> Space:
    if own == primaries.SRGB:
        return Space(curve, full_range)
    return Space(curve, full_range, primaries.icc_profile(own))


def _fits(profile: bytes, mode: str) -> bool:
    """Whether a profile can be read and describes pictures of this mode."""
    try:
        space, _ = _conversion(profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False
    grey = mode in _GREY_MODES or mode.startswith("I;16")
    return (space == "CMYK") == (mode == "CMYK") and (space != "L" or grey)


@functools.lru_cache(maxsize=8)  # one camera or one editor sends the same profile every time
def _conversion(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the profile's mode and its conversion to sRGB (None: already sRGB)."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    mode = {"GRAY": "L"}.get(space, space)
    conversion = ImageCms.buildTransform(source, SRGB, mode, "RGB")
    if mode == "RGB":
        # Most profiles are one of many editions of sRGB, so test the effect instead of comparing.
        shades = _applied(_SHADES, conversion)
        bands = cast(
            tuple[tuple[int, int], ...], ImageChops.difference(_SHADES, shades).getextrema()
        )
        if max(high for _, high in bands) <= 2:
            return mode, None
    return mode, conversion


def _applied(image: Image.Image, conversion: ImageCms.ImageCmsTransform) -> Image.Image:
    # It returns None only when working in place.
    return cast(Image.Image, ImageCms.applyTransform(image, conversion))


def warm_up() -> None:
    """Convert once, so that all of the library is in memory."""
    _conversion(SRGB.tobytes())
