"""How to turn a stored picture upright."""

from PIL import ExifTags, Image

# EXIF orientation -> the operation that turns the stored picture upright.
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def ignore_xmp(image: Image.Image) -> None:
    """Make Pillow forget an orientation that stands in XMP alone; call it before loading.

    Browsers do not know it either, so whoever sent the picture saw it as it is stored.
    """
    for name in ("xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
        image.info.pop(name, None)


def upright(image: Image.Image, exif: bytes | None) -> Image.Image:
    """Turn `image` as `exif` says. Damaged EXIF does not spoil a good picture."""
    try:
        tags = Image.Exif()
        tags.load(exif or b"")
        turn = TRANSPOSE.get(int(tags.get(ExifTags.Base.Orientation, 1)))
    except Exception:  # Pillow raises a dozen types
        return image
    return image if turn is None else image.transpose(turn)
