"""Reads JSON bodies; a picture in one is never held as text.

A data URI is decoded while the body arrives. What remains is as small as a form's fields.
"""

import json
import re
from typing import IO, TypeVar

from flask import request
from pydantic import BaseModel
from werkzeug.exceptions import RequestEntityTooLarge

from app.api.models.base import parse_json
from app.api.request.data_uri import PIECE, DataUriDecoder
from app.api.request.picture_file import PictureFile, not_a_data_uri
from app.domain.errors import BadRequest

M = TypeVar("M", bound=BaseModel)

# Room for every field at its longest, and for a form's own lines.
FIELDS_BYTES = 256 * 1024
# Shorter strings stay in place: a label may be called like the picture's field.
INLINE_BYTES = 4096
# Stands for the picture that was taken out. Too long for any other field, so that a picture in the
# wrong place is refused there.
TAKEN_OUT = "data:," + "-" * 2000

_CONTROL = bytes(range(0x20))
_HALF_ESCAPE = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_LONGEST_KEY = 512  # bytes that the pattern of a key can match


def read_body(model: type[M]) -> M:
    """The request's JSON; an empty body means `{}`. Raises Invalid, BadRequest."""
    body = request.get_data(cache=False)
    if body and request.mimetype != "application/json":
        raise BadRequest("unsupported_media_type", "Send application/json.", status=415)
    return parse_json(model, body or b"{}")


def _picture_pattern(name: str) -> re.Pattern[bytes]:
    # In JSON, this cannot begin or end within a string: its quotes would be escaped.
    space = rb"[ \t\r\n]{0,100}"
    return re.compile(rb'(?<!\\)"%b"%b:%b"(?=%b(?i:data):)' % (name.encode(), space, space, space))


def read_json(body: IO[bytes], name: str, picture: PictureFile) -> tuple[bytes, bool]:
    """The body without the long data URI of its field `name`, which is decoded into `picture`.

    The flag says whether there was one; then TAKEN_OUT is in its place. Raises Invalid if it is
    not a data URI, BadRequest if the picture is too large, and werkzeug's 413 if the rest is.
    """
    pattern = _picture_pattern(name)
    rest, at, taken = bytearray(), 0, False
    while piece := body.read(PIECE):
        rest += piece
        while not taken and (found := pattern.search(rest, at)):
            start = found.end()
            inline = rest.find(b'"', start, start + INLINE_BYTES) >= 0
            if not inline and len(rest) - start < INLINE_BYTES:
                at = found.start()
                break
            at = start
            if not inline:
                text = bytes(rest[start:])
                del rest[start:]
                rest += TAKEN_OUT.encode() + _take_out(text, body, picture)
                at, taken = len(rest), True
        else:
            at = max(at, len(rest) - _LONGEST_KEY)
        if len(rest) > FIELDS_BYTES:
            raise RequestEntityTooLarge(
                f"Without its picture, the body may have {FIELDS_BYTES} bytes."
            )
    return bytes(rest), taken


def _take_out(text: bytes, body: IO[bytes], picture: PictureFile) -> bytes:
    """Decode a JSON string's `text` and what follows in `body`; returns what is read beyond it."""
    decoder = DataUriDecoder(picture.write)
    held = b""
    try:
        while text:
            end = text.find(b'"')
            piece = held + (text if end < 0 else text[:end])
            half = _HALF_ESCAPE.search(piece[-6:])
            held = b"" if half is None else half[0]
            if end >= 0 and held:
                raise ValueError("an escaped quote, or half an escape")
            decoder.feed(_unescape(piece[: len(piece) - len(held)]))
            if end >= 0:
                decoder.finish()
                return text[end:]
            text = body.read(PIECE)
    except ValueError:
        raise not_a_data_uri(picture.pointer) from None
    return b""  # The string does not end, so the body is not JSON.


def _unescape(text: bytes) -> bytes:
    """Part of a JSON string. Raises ValueError unless it is ASCII, as URIs are."""
    if b"\\" in text:
        if b"\\\\" in text:
            raise ValueError("a backslash")
        unescaped: str = json.loads(b'"%b"' % text)
        return unescaped.encode("ascii")
    if not text.isascii() or len(text.translate(None, _CONTROL)) != len(text):
        raise ValueError("not ASCII")
    return text
