"""TIFF layouts that Pillow reads wrongly or not at all."""

from typing import cast

from PIL import Image, ImageFile, TiffImagePlugin

_BITS, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 258, 262, 284, 339
_SEPARATE, _WHITE_IS_ZERO = 2, 0
_NATIVE = {"F;32BF": "F;32NF", "I;16BS": "I;16NS", "I;32BS": "I;32NS"}

# Pillow knows little-endian 16-bit WhiteIsZero only.
TiffImagePlugin.OPEN_INFO[(b"MM", 0, (1,), 1, (16,), ())] = ("I;16B", "I;16B")


def repair_layout(image: Image.Image) -> None:
    """Make an unloaded TIFF read its samples as they are stored."""
    file, tags = cast(ImageFile.ImageFile, image), _tags(image)
    planes_of_16 = tags.get(_PLANAR) == _SEPARATE and set(tags.get(_BITS, ())) == {16}
    order = "B" if tags.prefix == b"MM" else "L"
    for i, tile in enumerate(file.tile):
        if not isinstance(tile.args, tuple):
            continue
        layout, *others = tile.args
        if tile.codec_name == "libtiff":
            # libtiff has swapped the bytes already.
            layout = _NATIVE.get(layout, layout)
        elif planes_of_16:
            # Pillow takes the first letters of the layout of whole pixels, and so reads 8 bits.
            layout = f"{layout};16{order}"
        file.tile[i] = tile._replace(args=(layout, *others))


def is_unsigned(image: Image.Image) -> bool:
    """Whether the samples are unsigned, which Pillow's mode I is not."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and (
        _tags(image).get(_SAMPLE_FORMAT, (1,))[0] == 1
    )


def upper_half(image: Image.Image) -> Image.Image:
    """The upper 16 bits of unsigned 32-bit samples, which Pillow holds as signed ones."""
    stored = image.tobytes()  # little-endian
    values = bytearray(len(stored) // 2)
    values[0::2], values[1::2] = stored[2::4], stored[3::4]
    return Image.frombytes("I;16", image.size, bytes(values))


def is_negative(image: Image.Image) -> bool:
    """Whether 0 means white and Pillow has not turned the values around: above 8 bits."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    return deep and image.tag_v2.get(_PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO


def _tags(image: Image.Image) -> TiffImagePlugin.ImageFileDirectory_v2:
    return cast(TiffImagePlugin.TiffImageFile, image).tag_v2
