"""A picture as it arrives with a request: written piece by piece, and on disk if it is large.

Many requests can wait with a picture each, so only those that decode theirs have it in memory
(app/api/process/byte_budget.py).
"""

from hashlib import sha256
from tempfile import SpooledTemporaryFile

from app.api.models.base import Invalid
from app.api.models.problem import FieldError
from app.domain.errors import BadRequest
from app.pictures.refusals import REFUSALS

SPOOL_BYTES = 512 * 1024  # what one request keeps in memory; the rest goes to a temporary file


class PictureFile:
    """A picture's bytes with their size and SHA-256.

    `pointer`: to the request's field that holds it.
    """

    def __init__(self, max_bytes: int, pointer: str):
        self.pointer = pointer
        self.size = 0
        self._max_bytes = max_bytes
        self._hash = sha256()
        self._file = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115  # see `close`

    def write(self, piece: bytes) -> None:
        """Append a piece. Raises BadRequest: upload_too_large."""
        self.size += len(piece)
        if self.size > self._max_bytes:
            status, sentence = REFUSALS["upload_too_large"]
            raise BadRequest("upload_too_large", sentence, status=status, pointer=self.pointer)
        self._hash.update(piece)
        self._file.write(piece)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def read(self) -> bytes:
        """All of it."""
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        """Free its memory or its temporary file. May be called again."""
        self._file.close()


def not_a_data_uri(pointer: str) -> Invalid:
    detail = f"{pointer[1:]}: not a data URI of a picture."
    return Invalid([FieldError("invalid_field", pointer, detail)])
