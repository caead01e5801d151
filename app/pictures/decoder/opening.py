"""From a file to its first frame, or to the reason why there is none."""

import io
import re

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,  # noqa: F401  (each plugin registers its format when imported)
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401  (phones write it inside .jpg; otherwise loaded on first use)
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)
from pillow_heif import options as heif_options
from pillow_heif import register_heif_opener

from app.pictures.decoder import jpeg, orientation, tiff
from app.pictures.decoder.refused import Refused

Size = tuple[int, int]

MAX_PIXELS = 50_000_000
# A large JPEG is scaled while it is decoded, so its pixels are never all in memory.
MAX_JPEG_PIXELS = 200_000_000
MIN_SIDE = 16
MAX_ASPECT = 8
# A progressive JPEG is whole in memory before it is scaled: 200 megapixels with 4:2:0 chroma are
# 600 MB. The process has 1 GiB.
MAX_COEFFICIENT_BYTES = 640_000_000

# One core for one picture, because others' pictures wait; walls.py allows few threads.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
heif_options.DECODE_THREADS = 1
register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)

# How Pillow's readers say that a sound file is of a kind that they cannot decode.
_UNSUPPORTED = re.compile(
    r"unsupported|not (?:yet )?supported|cannot handle|unknown (?:pixel|raw) mode"
    r"|samples per pixel",
    re.IGNORECASE,
)
_TIFF_TAGS = {273, 279, 320, 324, 325}  # where the data are; the palette
_END_OF_JPEG = b"\xff\xd9"
# Without FF, which would begin a marker.
_NOISES = [bytes((step * i + 41) % 255 for i in range(64)) for step in (73, 101)]


def opened(data: bytes, fmt: str) -> Image.Image:
    """Read the header and check what it says.

    Raises:
        Refused: with a code of `app/pictures/refusals.py`.
    """
    # Pillow's own check covers frames that are larger than the header says.
    most = MAX_JPEG_PIXELS if fmt == "JPEG" else MAX_PIXELS
    Image.MAX_IMAGE_PIXELS = most
    frame = jpeg.inspect(data) if fmt == "JPEG" else None
    try:
        read_header, _ = Image.OPEN[fmt]
        image: Image.Image = read_header(io.BytesIO(data), "")
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises a dozen types; the first bytes were right
        raise Refused(_reason(error, fmt)) from error
    width, height = image.size
    if width * height > most:
        raise Refused("image_too_large")
    if frame is not None and frame.coefficient_bytes(width, height) > MAX_COEFFICIENT_BYTES:
        raise Refused("image_too_large")
    if min(width, height) < MIN_SIDE:
        raise Refused("image_too_small")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refused("unsupported_aspect_ratio")
    orientation.ignore_xmp(image)
    if fmt == "TIFF":
        tiff.repair_layout(image)
    return image


def loaded(image: Image.Image, data: bytes, fmt: str, target: Size) -> Image.Image:
    """Decode the first frame, not much larger than `target` where the format allows that.

    Raises:
        Refused: image_too_large, truncated_image, unsupported_image_kind.
    """
    try:
        return _decoded(image, target)
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise Refused("image_too_large") from error
    except Exception as error:
        if fmt != "JPEG":
            raise Refused(_reason(error, fmt)) from error
    return _without_end(data, target)


def _decoded(image: Image.Image, target: Size) -> Image.Image:
    # Decode large JPEGs at 1/2, 1/4 or 1/8. Keeping twice the final size for the resampling
    # filter makes the shortcut invisible.
    image.draft(None, (2 * target[0], 2 * target[1]))
    image.load()
    return image


def _without_end(data: bytes, target: Size) -> Image.Image:
    """Decode a JPEG whose end mark is missing, if that is all that it lacks.

    libjpeg fills missing data with grey and does not tell. So add noise before the mark: a complete
    picture does not change, because its data have ended by then.
    """
    data = data.removesuffix(b"\xff")
    tails = (b"", *_NOISES)
    try:
        first, *others = (
            _decoded(opened(data + tail + _END_OF_JPEG, "JPEG"), target) for tail in tails
        )
    except (OSError, SyntaxError, ValueError) as error:
        raise Refused("truncated_image") from error
    pixels = first.tobytes()
    if any(other.tobytes() != pixels for other in others):
        raise Refused("truncated_image")
    return first


def _reason(error: Exception, fmt: str) -> str:
    cause = error.__cause__
    # Pillow looks an unknown compression up; other keys are those of missing tags.
    unknown = isinstance(cause, KeyError) and not set(cause.args) <= _TIFF_TAGS
    if _UNSUPPORTED.search(str(error)) or (fmt == "TIFF" and unknown):
        return "unsupported_image_kind"
    return "truncated_image"
