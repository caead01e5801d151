"""The interface of every object store; keys, errors and times are the same for all of them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

MAX_KEY_CHARS = 512
MAX_URL_S = 604_800  # S3's own limit for a signed URL: a week

# Segments must not begin with a dot, which rules out "..", hidden files and a store's own files.
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
    """Bytes by key. Safe to share between threads and between processes.

    Every method raises StorageUnavailable when the store refuses or does not answer, and ValueError
    for a key that `check_key` rejects.
    """

    @abstractmethod
    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object atomically. It is durable when this returns.

        A key must not extend another: on disk, `a/b` cannot exist next to an object `a`.
        """

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return an object. Raises ObjectMissing."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object, if it exists."""

    @abstractmethod
    def head(self, key: str) -> ObjectInfo | None:
        """Describe an object; None if it does not exist."""

    @abstractmethod
    def list(self, prefix: str = "", older_than: datetime | None = None) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, sorted by key; if `older_than` (aware)
        is given, only those written before it."""

    @abstractmethod
    def signed_url(
        self,
        key: str,
        *,
        expires_s: int,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """Return a URL that lets anyone read the object for `expires_s`, at most a week.

        Browsers save the object as `filename`; it is served as `content_type`. Does not check that
        the object exists.
        """

    @abstractmethod
    def signed_put_url(self, key: str, *, expires_s: int, size: int) -> str:
        """Return a URL that lets anyone PUT exactly `size` bytes under the key, for `expires_s`."""

    @abstractmethod
    def check(self) -> None:
        """Readiness probe: return if the store answers."""


def check_key(key: str) -> str:
    """Return the key. Raises ValueError unless it is a plain relative path of letters, digits,
    `.`, `_` and `-`."""
    if len(key) > MAX_KEY_CHARS or not _KEY.fullmatch(key):
        raise ValueError(f"not a key: {key[:80]!r}")
    return key


def check_url_options(expires_s: int, filename: str | None, content_type: str | None) -> None:
    """Raise ValueError for options that `Objects.signed_url` does not accept."""
    if not 1 <= expires_s <= MAX_URL_S:
        raise ValueError(f"expires_s must be within 1..{MAX_URL_S}, not {expires_s}")
    if filename is not None and not _FILENAME.fullmatch(filename):
        raise ValueError(f"not a file name: {filename[:80]!r}")
    if content_type is not None and not _CONTENT_TYPE.fullmatch(content_type):
        raise ValueError(f"not a content type: {content_type[:80]!r}")
