"""What every object store offers; keys, errors and time are the same for all of them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

MAX_KEY_CHARS = 512
MAX_URL_S = 604_800  # S3's own limit for a signed URL: a week

# No segment begins with a dot, so none is "..", hidden or a store's own file.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199})*")
_FILENAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_CONTENT_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+")


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object: its size in bytes, and when it was last written (aware, UTC)."""

    key: str
    size: int
    modified: datetime


class Objects(ABC):
    """Bytes under a key. Safe for threads, and for processes that share a store.

    Every method raises StorageUnavailable when the store does not answer or refuses, and
    ValueError for a key that `check_key` refuses.
    """

    @abstractmethod
    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object, whole or not at all; durable when this returns.

        A key must not continue another: `a/b` beside an object `a` is an error on disk.
        """

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return an object. Raises ObjectMissing."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; removing none is fine."""

    @abstractmethod
    def head(self, key: str) -> ObjectInfo | None:
        """Describe an object, or None where there is none."""

    @abstractmethod
    def list(self, prefix: str = "", older_than: datetime | None = None) -> Iterator[ObjectInfo]:
        """Walk the objects whose key begins with `prefix`, by key; only those written before
        `older_than` (aware) if it is given."""

    @abstractmethod
    def signed_url(
        self,
        key: str,
        *,
        expires_s: int,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """Return a URL that lets anybody read the object for `expires_s`, at most a week.

        `filename` is the name under which a browser saves it, `content_type` what it is served
        as. Whether the object exists is not checked.
        """

    @abstractmethod
    def signed_put_url(self, key: str, *, expires_s: int, size: int) -> str:
        """Return a URL that lets anybody PUT exactly `size` bytes there, for `expires_s`."""

    @abstractmethod
    def check(self) -> None:
        """Return if the store answers, for a readiness probe."""


def check_key(key: str) -> str:
    """Return the key. Raises ValueError unless it is a plain relative path of letters, digits,
    `.`, `_` and `-`."""
    if len(key) > MAX_KEY_CHARS or not _KEY.fullmatch(key):
        raise ValueError(f"not a key: {key[:80]!r}")
    return key


def check_url_options(expires_s: int, filename: str | None, content_type: str | None) -> None:
    """Raise ValueError for what `Objects.signed_url` does not take."""
    if not 1 <= expires_s <= MAX_URL_S:
        raise ValueError(f"expires_s must be within 1..{MAX_URL_S}, not {expires_s}")
    if filename is not None and not _FILENAME.fullmatch(filename):
        raise ValueError(f"not a file name: {filename[:80]!r}")
    if content_type is not None and not _CONTENT_TYPE.fullmatch(content_type):
        raise ValueError(f"not a content type: {content_type[:80]!r}")
