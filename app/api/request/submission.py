"""Reads a submit: its headers, its fields as a form or JSON, and the source of its picture."""

import json
import re
from dataclasses import dataclass
from hashlib import sha256

from flask import Request, g

from app.api.models.base import Invalid, check_shape, parse_json, parse_strings, pointer
from app.api.models.job_request import MAX_DEADLINE_S, JobRequest, JsonJobRequest
from app.api.models.problem import FieldError
from app.api.request.form_body import read_form
from app.api.request.json_body import FIELDS_BYTES, read_json
from app.api.request.picture_file import PictureFile
from app.api.request.picture_source import PictureSource
from app.config.settings import Settings
from app.domain.errors import BadRequest
from app.store.keys import ApiKey

# Base64 needs 4/3; the rest is for line ends, and for percent and JSON escapes.
DATA_URI_OVERHEAD = 1.5

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_CANCEL_AFTER = re.compile(r"([0-9]{1,7})(s|m|h)?")
_UNITS = {None: 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Submission:
    """Everything a submit asks for, whatever dialect it was sent in."""

    job_request: JobRequest
    picture: PictureSource
    caller: ApiKey
    idempotency_key: str | None

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of everything asked for: the same for a form and for JSON."""
        asked = {
            # Defaults are left out, so that a release with more fields still recognises the
            # requests of one with fewer. The names are part of the stored fingerprints.
            "order": self.job_request.model_dump(
                mode="json", exclude={"image", "upload_id"}, exclude_defaults=True
            ),
            "picture": self.picture.fingerprint,
        }
        return sha256(json.dumps(asked, sort_keys=True).encode()).digest()


def read_submission(request: Request, settings: Settings) -> Submission:
    """Read a form or JSON. Raises Invalid, BadRequest, and werkzeug's 413 before reading."""
    idempotency_key = read_idempotency_key(request)
    limit_body(request, settings)
    sent = new_picture_file(settings, "/image")
    if request.mimetype == "multipart/form-data":
        job_request, picture = _read_form(request, sent)
    elif request.mimetype == "application/json":
        job_request, picture = _read_json(request, sent)
    else:
        raise unsupported("image")
    job_request = _with_cancel_after(job_request, request.headers.get("Cancel-After"))
    return Submission(job_request, picture, g.api_key, idempotency_key)


def read_idempotency_key(request: Request) -> str | None:
    """The request's Idempotency-Key. Raises BadRequest: invalid_idempotency_key."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise BadRequest(
            "invalid_idempotency_key", "Idempotency-Key must be 1 to 255 visible ASCII characters."
        )
    return key


def limit_body(request: Request, settings: Settings) -> None:
    """Allow the longest body that can hold a picture of `max_upload_mb`."""
    upload = settings.max_upload_mb * 1_000_000
    if request.mimetype == "application/json":
        upload = int(upload * DATA_URI_OVERHEAD)
    request.max_content_length = FIELDS_BYTES + upload


def unsupported(file_field: str) -> BadRequest:
    return BadRequest(
        "unsupported_media_type",
        f"Send multipart/form-data with a file named `{file_field}`, or application/json.",
        status=415,
    )


def new_picture_file(settings: Settings, pointer: str) -> PictureFile:
    """For the picture in a request's field `pointer`."""
    return PictureFile(settings.max_upload_mb * 1_000_000, pointer)


def _read_json(request: Request, sent: PictureFile) -> tuple[JobRequest, PictureSource]:
    rest, taken_out = read_json(request.stream, "image", sent)
    body = parse_json(JsonJobRequest, rest)
    if body.image is not None and body.upload_id is None:
        if taken_out:
            return body, PictureSource.of_file(sent)
        return body, PictureSource.of_uri(body.image, sent)
    if body.image is None and body.upload_id is not None:
        return body, PictureSource(body.upload_id, "/upload_id")
    raise Invalid([_one_picture(neither=body.image is None)])


def _read_form(request: Request, sent: PictureFile) -> tuple[JobRequest, PictureSource]:
    form = read_form(request, sent)
    values: dict[str, object] = {}
    for name, given in form.texts.items():
        if name in ("allowed_regions", "webhook_events"):
            values[name] = given
        elif name == "metadata":
            values[name] = _json_or_text(form.single(name))
        elif name != "image":
            values[name] = form.single(name)
    files = form.check_files("image")
    if files <= 1 and bool(files) == ("upload_id" in values) and "image" not in form.texts:
        form.errors.append(_one_picture(neither=not files))
    try:
        asked = parse_strings(JobRequest, values)
    except Invalid as error:
        raise Invalid([*error.errors, *form.errors]) from None
    if form.errors:
        raise Invalid(form.errors)
    if asked.upload_id is not None:
        return asked, PictureSource(asked.upload_id, "/upload_id")
    return asked, PictureSource.of_file(sent)


def _one_picture(*, neither: bool) -> FieldError:
    code = "missing_field" if neither else "invalid_field"
    return FieldError(code, "/image", "image: send one picture, as `image` or by `upload_id`.")


def _json_or_text(value: str) -> object:
    """A form's `metadata`. Text that is not JSON fails later, as text. Raises Invalid."""
    try:
        check_shape(value, "metadata")
        return json.loads(value)
    except ValueError:
        return value


def _with_cancel_after(job_request: JobRequest, header: str | None) -> JobRequest:
    """The request with the deadline of a `Cancel-After: 90s|5m|1h` header.

    Raises Invalid if it is malformed or contradicts `deadline_seconds`.
    """
    if header is None:
        return job_request
    match = _CANCEL_AFTER.fullmatch(header.strip())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    where = pointer("deadline_seconds")
    if not 1 <= seconds <= MAX_DEADLINE_S:
        detail = f"Cancel-After: must be 1s to {MAX_DEADLINE_S}s, for example 90s, 5m or 1h."
        raise Invalid([FieldError("invalid_cancel_after", where, detail)])
    if job_request.deadline_seconds not in (None, seconds):
        detail = "deadline_seconds: contradicts Cancel-After."
        raise Invalid([FieldError("invalid_cancel_after", where, detail)])
    return job_request.model_copy(update={"deadline_seconds": seconds})


def preferred_wait_s(prefer: str | None, most_s: int) -> int | None:
    """Seconds of `Prefer: wait=n` (RFC 7240), at most `most_s`; None: the client does not wait.

    Other preferences are ignored, as the RFC asks.
    """
    for item in (prefer or "").split(","):
        name, _, value = item.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            digits = value.strip().strip('"')
            if not digits:
                return most_s
            if digits.isascii() and digits.isdecimal() and len(digits) <= 9:
                return min(int(digits), most_s) or None
    return None
