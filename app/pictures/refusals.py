"""Why a picture is refused, as the API's caller is told."""

from app.domain.errors import BadRequest

# code -> (HTTP status, sentence).
REFUSALS = {
    "empty_image": (422, "The picture is empty."),
    "upload_too_large": (413, "The picture's file is too large."),
    "not_an_image": (
        422,
        "The file is not a picture (JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF).",
    ),
    "unsupported_image_format": (
        415,
        "Pictures of this format are not supported; send JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or"
        " TIFF.",
    ),
    "unsupported_image_kind": (
        415,
        "The picture's bit depth, compression or colour layout is not supported; save it with 8"
        " bits per channel, as JPEG or PNG.",
    ),
    "truncated_image": (422, "The picture is truncated or damaged."),
    "image_too_large": (
        413,
        "The picture has too many pixels: at most 200 megapixels as JPEG, 50 in other formats.",
    ),
    "image_too_small": (422, "Each side of the picture must have at least 16 pixels."),
    "unsupported_aspect_ratio": (
        422,
        "The longer side of the picture may be at most 8 times the shorter one.",
    ),
    "image_too_complex": (422, "The picture takes too much time or memory to decode."),
}


def refusal(code: str) -> BadRequest:
    """The error for a code of REFUSALS."""
    status, sentence = REFUSALS[code]
    return BadRequest(code, sentence, status=status, pointer="/image")
