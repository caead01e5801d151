"""Where a submit's picture comes from: the request itself, a URL, or an earlier upload."""

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from app.api.models.base import Invalid
from app.api.models.problem import FieldError
from app.config.settings import Settings
from app.domain.errors import BadRequest
from app.objects import Objects
from app.outbound import Allow, fetch

FETCH_TIMEOUT_S = 10.0

_DATA_URI = re.compile(r"data:[\w.+/-]*(;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII)


def upload_key(owner_id: UUID, upload_id: UUID) -> str:
    """An upload's object key. It contains the owner, so another owner's upload id leads nowhere."""
    return f"uploads/{owner_id}/{upload_id}"


@dataclass(frozen=True)
class PictureSource:
    """The picture's bytes, the URL to fetch it from, or the id of its upload.

    `pointer`: to the request's field that holds it.
    """

    content: bytes | str | UUID
    pointer: str

    @classmethod
    def of_uri(cls, uri: str, pointer: str) -> "PictureSource":
        """From a data URI or any other URL. Raises Invalid."""
        if not uri.startswith("data:"):
            return cls(uri, pointer)
        head = _DATA_URI.match(uri)
        try:
            if head is None:
                raise ValueError
            return cls(base64.b64decode(uri[head.end() :], validate=True), pointer)
        except (binascii.Error, ValueError):
            detail = f"{pointer[1:]}: not a base64 data URI."
            raise Invalid([FieldError("invalid_field", pointer, detail)]) from None

    @property
    def fingerprint(self) -> list[str]:
        """What identifies the picture in a repeated request."""
        match self.content:
            case bytes():
                kind, content = "bytes", self.content
            case str():
                kind, content = "url", self.content.encode()
            case _:
                kind, content = "upload", self.content.bytes
        return [kind, sha256(content).hexdigest()]

    def load(self, settings: Settings, allow: Allow, objects: Objects, owner_id: UUID) -> bytes:
        """The picture's bytes. Raises BadRequest if they must not or cannot be read."""
        max_bytes = settings.max_upload_mb * 1_000_000
        if isinstance(self.content, bytes):
            return self.content
        if isinstance(self.content, UUID):
            return self._read_upload(objects, upload_key(owner_id, self.content), max_bytes)
        try:
            return fetch(self.content, max_bytes=max_bytes, timeout_s=FETCH_TIMEOUT_S, allow=allow)
        except BadRequest as error:
            error.pointer = self.pointer
            raise

    def _read_upload(self, objects: Objects, key: str, max_bytes: int) -> bytes:
        found = objects.head(key)
        if found is None:
            detail = "upload_id: nothing was uploaded under this id, or the upload has expired."
            raise Invalid([FieldError("upload_not_found", self.pointer, detail)])
        if found.size > max_bytes:
            detail = "upload_id: the picture's file is too large."
            raise Invalid([FieldError("upload_too_large", self.pointer, detail)], status=413)
        return objects.get(key)
