"""Where a submit's picture comes from: the request itself, a URL, or an earlier upload."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from app.api.models.base import Invalid
from app.api.models.problem import FieldError
from app.api.process.services import Services
from app.api.request.body import fetching
from app.api.request.data_uri import DataUriDecoder, is_data_uri
from app.api.request.picture_file import PictureFile, not_a_data_uri
from app.domain.errors import BadRequest
from app.objects import Objects
from app.outbound import fetch

FETCH_TIMEOUT_S = 10.0


def upload_key(owner_id: UUID, upload_id: UUID) -> str:
    """An upload's object key. It contains the owner, so another owner's upload id leads nowhere."""
    return f"uploads/{owner_id}/{upload_id}"


@dataclass(frozen=True)
class PictureSource:
    """The picture's bytes, the URL to fetch it from, or the id of its upload.

    `pointer`: to the request's field that holds it.
    """

    content: PictureFile | str | UUID
    pointer: str

    @classmethod
    def of_file(cls, picture: PictureFile) -> "PictureSource":
        return cls(picture, picture.pointer)

    @classmethod
    def of_uri(cls, uri: str, picture: PictureFile) -> "PictureSource":
        """From a data URI, which is decoded into `picture`, or any other URL.

        Raises Invalid; BadRequest: upload_too_large.
        """
        if not is_data_uri(uri):
            return cls(uri, picture.pointer)
        decoder = DataUriDecoder(picture.write)
        try:
            decoder.feed(uri.encode("ascii"))
            decoder.finish()
        except ValueError:
            raise not_a_data_uri(picture.pointer) from None
        return cls.of_file(picture)

    def close(self) -> None:
        """Free what the request sent. The source cannot be loaded any more."""
        if isinstance(self.content, PictureFile):
            self.content.close()

    @property
    def fingerprint(self) -> list[str]:
        """What identifies the picture in a repeated request."""
        match self.content:
            case PictureFile():
                return ["bytes", self.content.sha256]
            case str():
                return ["url", sha256(self.content.encode()).hexdigest()]
            case UUID():
                return ["upload", sha256(self.content.bytes).hexdigest()]

    @contextmanager
    def load(self, services: Services, owner_id: UUID) -> Iterator[bytes]:
        """The picture's bytes, for as long as there is room for them in memory.

        Raises BadRequest if they must not or cannot be read, Transient: pictures_busy.
        """
        max_bytes = services.settings.max_upload_mb * 1_000_000
        room = services.picture_memory
        match self.content:
            case PictureFile():
                with room.hold(self.content.size):
                    yield self.content.read()
            case UUID():
                key = upload_key(owner_id, self.content)
                with room.hold(self._size_of_upload(services.objects, key, max_bytes)):
                    yield services.objects.get(key)
            case str():
                picture = self._fetch(self.content, services, owner_id, max_bytes)
                with closing(picture), room.hold(picture.size):
                    yield picture.read()

    def _fetch(self, url: str, services: Services, owner_id: UUID, max_bytes: int) -> PictureFile:
        picture = PictureFile(max_bytes, self.pointer)
        try:
            with services.overload.paused(owner_id), fetching():
                data = fetch(
                    url, max_bytes=max_bytes, timeout_s=FETCH_TIMEOUT_S, allow=services.allow
                )
            picture.write(data)
        except BadRequest as error:
            error.pointer = self.pointer
            raise
        return picture

    def _size_of_upload(self, objects: Objects, key: str, max_bytes: int) -> int:
        found = objects.head(key)
        if found is None:
            detail = "upload_id: nothing was uploaded under this id, or the upload has expired."
            raise Invalid([FieldError("upload_not_found", self.pointer, detail)])
        if found.size > max_bytes:
            detail = "upload_id: the picture's file is too large."
            raise Invalid([FieldError("upload_too_large", self.pointer, detail)], status=413)
        return found.size
