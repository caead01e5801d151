"""The process that decodes untrusted pictures; `normaliser.py` starts it.

Run by path in an isolated interpreter. It imports Pillow and none of our modules, gets an empty
environment, and cannot open another file or socket once it is warm.

    request  = REQUEST (format, max_side, data length), data
    response = RESPONSE (width, height, length), then a JPEG; if width is 0, a code or UNEXPECTED
"""

import contextlib
import functools
import io
import math
import os
import resource
import socket
import struct
import sys
import warnings
from typing import cast

from PIL import (
    BmpImagePlugin,  # noqa: F401  (each plugin registers its format when imported)
    ExifTags,
    GifImagePlugin,  # noqa: F401
    Image,
    ImageChops,
    ImageCms,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401  (phones write it inside .jpg; otherwise loaded on first use)
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

REQUEST = struct.Struct("!4sII")
RESPONSE = struct.Struct("!III")
READY = b"ready"
UNEXPECTED = "unexpected: "

MAX_PIXELS = 50_000_000
MIN_SIDE = 16
MAX_ASPECT = 8
JPEG_QUALITY = 95
BACKGROUND = (255, 255, 255)

GREY_MODES = ("1", "L", "LA", "I", "F")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# 16 levels each of red, green and blue.
SHADES = Image.frombytes(
    "RGB", (64, 64), bytes(17 * (i >> s & 15) for i in range(4096) for s in (0, 4, 8))
)

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


class Refused(Exception):
    """The picture cannot be used. The message is the code that the API's caller sees."""


def normalise(data: bytes, fmt: str, max_side: int) -> tuple[int, int, bytes]:
    """Decode `data` as `fmt` and re-encode it as a plain sRGB JPEG without metadata.

    Returns:
        Width and height in pixels, both even, and the JPEG.

    Raises:
        Refused: with one of the codes of `app.pictures.normaliser`.
        MemoryError: the picture exceeds this process's memory limit.
    """
    image, target = _decode(data, fmt, max_side)
    orientation = _orientation(image)  # after loading, because Pillow rotates TIFFs itself
    profile = image.info.get("icc_profile")
    grey = image.mode in GREY_MODES
    image = _eight_bits(image)
    if image.size != target:
        image = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=2.0)
    image = _opaque(image)
    image = _to_srgb(image, profile, grey)
    if orientation in TRANSPOSE:
        image = image.transpose(TRANSPOSE[orientation])
    # Make both sides even: H.264 with 4:2:0 has no half chroma samples.
    width, height = image.width & ~1, image.height & ~1
    if image.size != (width, height):
        image = image.crop((0, 0, width, height))
    return width, height, _jpeg(image)


def _decode(data: bytes, fmt: str, max_side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return the loaded first frame and its target size."""
    try:
        image = Image.open(io.BytesIO(data), formats=[fmt])
        width, height = image.size
        _check_size(width, height)
        scale = min(1.0, max_side / max(width, height))
        target = (max(2, round(width * scale)), max(2, round(height * scale)))
        # Decode large JPEGs at 1/2, 1/4 or 1/8. Keeping twice the final size for the resampling
        # filter makes the shortcut invisible.
        image.draft(None, (2 * target[0], 2 * target[1]))
        image.load()
    except (Refused, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise Refused("image_too_large") from error
    except Exception as error:  # Pillow raises a dozen types; the first bytes were right
        raise Refused("truncated_image") from error
    return image, target


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Refused("image_too_large")
    if min(width, height) < MIN_SIDE:
        raise Refused("image_too_small")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refused("unsupported_aspect_ratio")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # do not refuse a good picture for damaged EXIF
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert to L, RGB, RGBA or CMYK, the modes that can be resampled."""
    mode = image.mode
    if mode.startswith("I;16"):
        # Scale: a plain conversion would clip everything above 255 to white.
        return image.convert("I").point(lambda v: v * (255 / 65535) + 0.5).convert("L")
    if mode in ("I", "F"):
        return _stretched(image)
    if image.has_transparency_data:
        return image.convert("RGBA")
    if mode == "1":
        return image.convert("L")
    if mode in ("L", "RGB", "CMYK"):
        return image
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise Refused("unsupported_image_format") from error


def _stretched(image: Image.Image) -> Image.Image:
    """Scale 32-bit integer or float grey from 0..maximum; no header states its range."""
    low, high = cast(tuple[float, float], image.getextrema())  # single band
    low = min(0, low)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Refused("unsupported_image_format")
    scale = 255 / (high - low) if high > low else 0.0
    return image.point(lambda v: v * scale - low * scale).convert("L")


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    background = Image.new("RGB", image.size, BACKGROUND)
    background.paste(image, mask=image.getchannel("A"))
    return background


def _to_srgb(image: Image.Image, profile: bytes | None, grey: bool) -> Image.Image:
    """Apply the embedded colour profile if it fits the picture's mode; return RGB."""
    if profile:
        # Ignore a damaged or unsuitable profile, as browsers do.
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            mode, transform = _transform(profile)
            if transform is not None and (
                (mode == "CMYK") == (image.mode == "CMYK") and (mode != "L" or grey)
            ):
                # Grey with alpha was laid on the background and is RGB by now.
                image = image if image.mode == mode else image.convert(mode)
                return _transformed(image, transform)
    return image if image.mode == "RGB" else image.convert("RGB")


def _transformed(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    # It returns None only when working in place.
    return cast(Image.Image, ImageCms.applyTransform(image, transform))


@functools.lru_cache(maxsize=8)  # one camera or one editor sends the same profile every time
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the profile's mode and its transform to sRGB (None: already sRGB)."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    mode = {"GRAY": "L"}.get(space, space)
    transform = ImageCms.buildTransform(source, SRGB, mode, "RGB")
    if mode == "RGB":
        # Most profiles are one of many editions of sRGB, so test the effect instead of comparing.
        shades = _transformed(SHADES, transform)
        bands = cast(
            tuple[tuple[int, int], ...], ImageChops.difference(SHADES, shades).getextrema()
        )
        if max(high for _, high in bands) <= 2:
            return mode, None
    return mode, transform


def _jpeg(image: Image.Image) -> bytes:
    image.info = {}  # Pillow would copy a comment from it
    out = io.BytesIO()
    # 4:4:4, because the frames made from this picture have their chroma halved again.
    image.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def _warm_up() -> None:
    """Use every decoder once: Pillow loads lazily, and no file can be opened later."""
    picture = Image.new("RGB", (32, 32))
    for fmt in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        file = io.BytesIO()
        picture.save(file, fmt)
        normalise(file.getvalue(), fmt, 16)
    with contextlib.suppress(Refused):
        normalise(b"", "TIFF", 16)
    _transform(SRGB.tobytes())


def _confine(memory_bytes: int) -> None:
    """Drop everything that decoding does not need."""
    os.nice(5)  # the API answers first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # libtiff prints warnings about a file to stderr, and strangers must not write to our log.
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    # 0, 1 and 2 are open. Without further descriptors it can neither open files nor connect.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    if sys.platform != "darwin":  # macOS refuses this limit; only the time limit applies there
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _limit_cpu(seconds: int) -> None:
    """Have the kernel end this process after `seconds` more CPU time, even if nobody waits."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = math.ceil(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, resource.RLIM_INFINITY))


def _receive(sock: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        count = sock.recv_into(view)
        if not count:
            raise SystemExit  # the parent died or closed the socket
        view = view[count:]
    return bytes(buffer)


def main() -> None:
    """Serve the socket on standard input until it is closed."""
    warnings.simplefilter("ignore")  # Pillow's remarks about odd files
    # Pillow's own check covers frames that are larger than the header says.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    memory_mb, cpu_s = int(sys.argv[1]), int(sys.argv[2])
    sock = socket.socket(fileno=0)
    _warm_up()
    _confine(memory_mb * 2**20)
    sock.sendall(READY)
    while True:
        fmt, max_side, length = REQUEST.unpack(_receive(sock, REQUEST.size))
        data = _receive(sock, length)
        _limit_cpu(cpu_s)
        try:
            width, height, out = normalise(data, fmt.rstrip(b"\0").decode(), max_side)
        except Refused as error:
            width, height, out = 0, 0, str(error).encode()
        except MemoryError:
            width, height, out = 0, 0, b"image_too_complex"
        except Exception as error:  # a bug; the parent logs it
            width, height, out = 0, 0, f"{UNEXPECTED}{error!r}"[:300].encode()
        sock.sendall(RESPONSE.pack(width, height, len(out)) + out)


if __name__ == "__main__":
    main()
