"""Which format a file has, by its first bytes alone."""

from app.pictures.refusals import refusal

_BMP_HEADERS = tuple(size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124))
_OTHER_FORMATS = (
    b"%!PS",
    b"\xc5\xd0\xd3\xc6",  # EPS with a preview
    b"%PDF",
    b"8BPS",  # Photoshop
    b"\0\0\1\0",  # icon
    b"\0\0\0\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",  # JPEG 2000 codestream
    b"\xff\x0a",  # JPEG XL
    b"\0\0\0\x0cJXL ",
    b"qoif",
)
# Brands of ISO/IEC 23008-12 and of AVIF. Apple writes mif1 or heic, libavif avif.
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
_AVIF = frozenset({b"avif", b"avis"})


def sniff(data: bytes) -> str:
    """Return Pillow's name of the format that the first bytes announce.

    File names and content types are not trusted, so neither is a parameter.

    Raises:
        BadRequest: empty_image, unsupported_image_format or not_an_image.
    """
    if not data:
        raise refusal("empty_image")
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    # Text can begin with "BM", so the header's length field must be a valid one, too.
    if data.startswith(b"BM") and data[14:18] in _BMP_HEADERS:
        return "BMP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    is_media = data[4:8] == b"ftyp"  # films, too
    if is_media:
        brands = _brands(data)
        if brands & _AVIF:
            return "AVIF"
        if brands & _HEIC:
            return "HEIF"
    if is_media or data.startswith(_OTHER_FORMATS) or b"<svg" in data[:1024].lower():
        raise refusal("unsupported_image_format")
    raise refusal("not_an_image")


def _brands(data: bytes) -> set[bytes]:
    """The major and the compatible brands of a file of boxes (ISO/IEC 14496-12, 4.3)."""
    end = min(int.from_bytes(data[:4]), 256)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
