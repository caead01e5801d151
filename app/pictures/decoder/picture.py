"""One picture, from a stranger's file to a plain sRGB JPEG."""

import io

from PIL import Image

from app.pictures.decoder import colour, ground, orientation
from app.pictures.decoder.depth import eight_bits
from app.pictures.decoder.opening import loaded, opened

JPEG_QUALITY = 95

Colour = tuple[int, int, int]


def normalise(
    data: bytes, fmt: str, max_side: int, background: Colour | None = None
) -> tuple[int, int, bytes]:
    """Decode `data` as `fmt` and re-encode it as a plain sRGB JPEG without metadata.

    `background` is what transparency is laid on, in sRGB; None chooses by contrast.

    Returns:
        Width and height in pixels, both even, and the JPEG.

    Raises:
        Refused: with one of the codes of `app/pictures/refusals.py`.
        MemoryError: the picture exceeds this process's memory limit.
    """
    image = opened(data, fmt)
    target = _fitted(image.size, max_side)
    image = loaded(image, data, fmt, target)
    exif = None if fmt == "TIFF" else image.info.get("exif")  # Pillow rotates TIFFs itself
    space = colour.announced(image, data, fmt)
    image = eight_bits(image, data, space)
    image.info = {}  # Pillow would apply a transparent colour again, and write a comment
    if image.size != target:
        image = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=2.0)
    if image.mode == "RGBA":
        alpha = image.getchannel("A")
        image = ground.laid(space.to_srgb(image.convert("RGB")), alpha, background)
    else:
        image = space.to_srgb(image)
    image = orientation.upright(image, exif)
    # Make both sides even: H.264 with 4:2:0 has no half chroma samples.
    width, height = image.width & ~1, image.height & ~1
    if image.size != (width, height):
        image = image.crop((0, 0, width, height))
    return width, height, _jpeg(image)


def _fitted(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(size))
    return max(2, round(size[0] * scale)), max(2, round(size[1] * scale))


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    # 4:4:4, because the frames made from this picture have their chroma halved again.
    image.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()
