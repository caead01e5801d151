"""TIFF layouts that Pillow reads wrongly or not at all."""

from typing import cast

from PIL import Image, ImageFile, TiffImagePlugin

_BITS, _PHOTOMETRIC, _PLANAR = 258, 262, 284
_SEPARATE, _WHITE_IS_ZERO = 2, 0

# Pillow knows little-endian 16-bit WhiteIsZero only.
TiffImagePlugin.OPEN_INFO[(b"MM", 0, (1,), 1, (16,), ())] = ("I;16B", "I;16B")


def repair_planes(image: Image.Image) -> None:
    """Make an unloaded TIFF read its planes with 16 bits per sample, if it has them.

    Pillow takes the first letters of the layout of whole pixels, and so reads 8-bit samples.
    """
    tags = cast(TiffImagePlugin.TiffImageFile, image).tag_v2
    if tags.get(_PLANAR) != _SEPARATE or set(tags.get(_BITS, ())) != {16}:
        return
    file = cast(ImageFile.ImageFile, image)
    order = "B" if tags.prefix == b"MM" else "L"
    file.tile = [
        tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
        if tile.codec_name == "raw" and isinstance(tile.args, tuple)
        else tile
        for tile in file.tile
    ]


def is_negative(image: Image.Image) -> bool:
    """Whether 0 means white and Pillow has not turned the values around: above 8 bits."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    return deep and image.tag_v2.get(_PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO
