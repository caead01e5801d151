"""Decodes `data:` URIs (RFC 2397) piece by piece, as browsers do (Fetch, "data: URL processor").

The scheme and `base64` match in any case, line ends between base64 digits are skipped, padding may
be missing, and any character may be percent-encoded. Without `;base64` the data are the
percent-decoded characters themselves. The media type is ignored: the first bytes decide.
"""

import binascii
import re
from collections.abc import Callable

SCHEME = b"data:"
HEAD_CHARS = 512  # the comma must come within these
PIECE = 64 * 1024

_BASE64 = re.compile(rb"; *base64 *", re.IGNORECASE)
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SPACE = b" \t\r\n\f"


def is_data_uri(uri: str) -> bool:
    """Whether a URI has this scheme."""
    return uri[: len(SCHEME)].lower() == SCHEME.decode()


class DataUriDecoder:
    """Passes the decoded bytes to `sink` as the URI's characters are fed.

    All methods raise ValueError for what is not a data URI.
    """

    def __init__(self, sink: Callable[[bytes], object]):
        self._sink = sink
        self._head: bytes | None = b""  # None once it has ended
        self._is_base64 = False
        self._held = b""  # the start of a percent escape, or of four base64 digits
        self._digits = b""
        self._padding = 0

    def feed(self, text: bytes) -> None:
        """Decode the next characters, of any number."""
        if self._head is not None:
            text = (self._head + text).lstrip(_SPACE)
            comma = text.find(b",", 0, HEAD_CHARS)
            if comma < 0:
                if len(text) >= HEAD_CHARS:
                    raise ValueError("no comma")
                self._head = text
                return
            self._begin(text[:comma])
            text = text[comma + 1 :]
        for at in range(0, len(text), PIECE):
            self._decode(text[at : at + PIECE])

    def finish(self) -> None:
        """The URI has ended."""
        if self._head is not None or self._held:
            raise ValueError("cut short")
        left = -len(self._digits) % 4
        if left == 3 or (self._padding and self._padding != left):
            raise ValueError("not a whole number of bytes")
        if self._digits:
            self._sink(binascii.a2b_base64(self._digits + b"=" * left, strict_mode=True))

    def _begin(self, head: bytes) -> None:
        if head[: len(SCHEME)].lower() != SCHEME:
            raise ValueError("another scheme")
        last = head.rfind(b";")
        self._is_base64 = last >= 0 and _BASE64.fullmatch(head, last) is not None
        self._head = None

    def _decode(self, text: bytes) -> None:
        text = self._held + text
        cut = text.find(b"%", max(0, len(text) - 2))
        text, self._held = (text, b"") if cut < 0 else (text[:cut], text[cut:])
        if b"%" in text:
            if _BROKEN_ESCAPE.search(text):
                raise ValueError("a broken percent escape")
            # Quoted-printable differs only in its sign; its decoder is in C and takes any length.
            text = binascii.a2b_qp(text.replace(b"=", b"=3D").replace(b"%", b"="))
        if self._is_base64:
            self._decode_base64(text)
        else:
            self._sink(text)

    def _decode_base64(self, text: bytes) -> None:
        digits = text.translate(None, _SPACE)
        bare = digits.rstrip(b"=")
        if b"=" in bare or (bare and self._padding):
            raise ValueError("digits after the padding")
        self._padding += len(digits) - len(bare)
        digits = self._digits + bare
        whole = len(digits) - len(digits) % 4
        self._digits = digits[whole:]
        if whole:
            self._sink(binascii.a2b_base64(digits[:whole], strict_mode=True))
