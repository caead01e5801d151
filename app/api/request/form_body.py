"""Reads multipart forms (RFC 7578): texts in the charset they declare, and one file.

werkzeug's own reader drops a form that it cannot parse, and replaces the text that it cannot
decode. A job would then render another prompt than its client sent.
"""

from codecs import lookup
from collections import defaultdict
from dataclasses import dataclass, field

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from app.api.models.base import pointer
from app.api.models.problem import FieldError
from app.api.models.query_string import given_twice
from app.api.request.data_uri import PIECE
from app.api.request.json_body import FIELDS_BYTES
from app.api.request.picture_file import PictureFile
from app.domain.errors import BadRequest

MAX_PARTS = 100
# By their names in Python. HTML and RFC 7578 expect UTF-8; old programs send the others.
CHARSETS = frozenset({"utf-8", "utf-8-sig", "ascii", "iso8859-1", "iso8859-15", "cp1252"})


@dataclass
class Form:
    """The texts of each field in the order sent, how many files each has, and what is wrong."""

    texts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    files: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    errors: list[FieldError] = field(default_factory=list)

    def single(self, name: str) -> str:
        """The text of a field that was given. Notes an error if it was given twice."""
        first, *more = self.texts[name]
        if more:
            self.errors.append(given_twice(name))
        return first

    def check_files(self, name: str) -> int:
        """Note errors for other files, several files, and a text in place of one.

        Returns how many files `name` has.
        """
        for other in self.files:
            if other != name:
                detail = f"{other[:64]}: the only file is `{name}`."
                self.errors.append(FieldError("unknown_field", pointer(other), detail))
        count = self.files.get(name, 0)
        if name in self.texts:
            detail = f"{name}: text instead of a file; send a file, or JSON with a URL."
            self.errors.append(FieldError("invalid_field", pointer(name), detail))
        elif count > 1:
            detail = f"{name}: send exactly one file."
            self.errors.append(FieldError("invalid_field", pointer(name), detail))
        return count


def read_form(request: Request, picture: PictureFile) -> Form:
    """Read a form; the first file of the picture's field is written to `picture`.

    Raises BadRequest (invalid_form; upload_too_large), werkzeug's 413.
    """
    options = request.mimetype_params
    name = picture.pointer[1:]
    form = Form()
    try:
        boundary = options.get("boundary", "").encode("ascii")
        if not boundary:
            raise ValueError("no boundary")
        decoder = MultipartDecoder(boundary, FIELDS_BYTES, max_parts=MAX_PARTS)
        part: Field | File | None = None
        text, text_bytes = b"", 0
        event = decoder.next_event()
        while not isinstance(event, Epilogue):
            match event:
                case NeedData():
                    decoder.receive_data(request.stream.read(PIECE) or None)
                case File() | Field():
                    part, text = event, b""
                    if not isinstance(event.name, str):  # werkzeug's types promise one
                        raise _unreadable("A part of the form has no name.")
                    if isinstance(event, File):
                        form.files[event.name] += 1
                case Data() if isinstance(part, Field):
                    text_bytes += len(event.data)
                    if text_bytes > FIELDS_BYTES:
                        raise RequestEntityTooLarge(
                            f"Without its picture, the form may have {FIELDS_BYTES} bytes."
                        )
                    text += event.data
                    if not event.more_data:
                        _add_text(form, part, text, options.get("charset"))
                case Data() if part is not None and part.name == name and form.files[name] == 1:
                    picture.write(event.data)
            event = decoder.next_event()
    except ValueError as error:
        raise _unreadable("The form is not valid multipart/form-data.") from error
    return form


def _add_text(form: Form, part: Field, text: bytes, default: str | None) -> None:
    _, options = parse_options_header(part.headers.get("content-type"))
    charset = options.get("charset") or default or "utf-8"
    try:
        codec = lookup(charset).name
    except LookupError:
        codec = ""
    where, shown = pointer(part.name), part.name[:64]
    if codec not in CHARSETS:
        detail = f"{shown}: this charset is not supported; send UTF-8."
        form.errors.append(FieldError("invalid_field", where, detail))
        form.texts[part.name].append("")  # so that it is not reported as missing, too
        return
    try:
        form.texts[part.name].append(text.decode(codec))
    except UnicodeDecodeError:
        detail = f"{shown}: not in UTF-8; send UTF-8, or declare the part's charset."
        if codec != "utf-8":
            detail = f"{shown}: not in the charset that it declares."
        form.errors.append(FieldError("invalid_field", where, detail))
        form.texts[part.name].append("")


def _unreadable(detail: str) -> BadRequest:
    return BadRequest("invalid_form", detail)
