"""Objects as files below one directory, for a single machine or a shared file system."""

import contextlib
import hmac
import io
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from app.domain.errors import BadRequest, ObjectMissing, StorageUnavailable
from app.objects.base import ObjectInfo, Objects, check_key, check_url_options

# Holds half-written files. No key can name it: segments never begin with a dot.
_PARTIAL = ".partial"
_SIGNED = ("expires", "filename", "content_type")
_SIGNED_PUT = ("expires", "size")
_PUT = "PUT "  # prefix of the signed key; keys have no space, so a GET's signature never fits
# Beyond "no such file": a key that extends another key, or is extended by one.
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class LocalObjects(Objects):
    """A directory. It gets mode 0700 if it is created here; inside it the umask decides, so that
    several users can share a directory that was made for them."""

    def __init__(
        self,
        root: Path,
        secret_keys: Sequence[str],
        public_url: str,
        now: Callable[[], float] = time.time,
    ):
        self._root = root
        self._public_url = public_url.rstrip("/")
        self._now = now
        # Derive separate keys, so that these signatures are never valid anywhere else. The first
        # one signs, all are accepted.
        self._keys = [
            hmac.digest(key.encode(), b"stillmotion object URLs v1", "sha256")
            for key in secret_keys
        ]

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """See Objects.put. The type is not stored; `signed_url` carries it."""
        path = self._path(key)
        with _errors():
            partial = self._root / _PARTIAL / f"{os.getpid()}-{secrets.token_hex(8)}"
            with self._open_new(partial) as file:
                try:
                    _write(file, data)
                    if path.exists():
                        os.fsync(file.fileno())  # the old object must survive a power cut
                    _move(partial, path)
                    # One flush instead of three: it also makes the new name durable, and nobody
                    # learns of the object before it returns.
                    os.fsync(file.fileno())
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise

    def get(self, key: str) -> bytes:
        """See Objects.get."""
        path = self._path(key)
        with _errors():
            try:
                return path.read_bytes()
            except _ABSENT:
                raise ObjectMissing(f"No such object: {key}.") from None

    def delete(self, key: str) -> None:
        """See Objects.delete. Also removes directories that become empty."""
        path = self._path(key)
        with _errors():
            try:
                path.unlink()
            except _ABSENT:
                return
        with contextlib.suppress(OSError):  # not empty
            for parent in path.parents[: key.count("/")]:
                parent.rmdir()

    def head(self, key: str) -> ObjectInfo | None:
        """See Objects.head."""
        with _errors():
            return _info(key, self._path(key))

    def list(self, prefix: str = "", older_than: datetime | None = None) -> Iterator[ObjectInfo]:
        """See Objects.list. A caller that asks for old objects is cleaning up, so this also removes
        what killed `put`s left behind before `older_than`."""
        folder = prefix.rpartition("/")[0]
        if folder:
            check_key(folder)
        with _errors():
            if older_than is not None:
                self._drop_abandoned(older_than)
            for key, path in _walk(self._root / folder, f"{folder}/" if folder else ""):
                info = _info(key, path) if key.startswith(prefix) else None
                if info and (older_than is None or info.modified < older_than):
                    yield info

    def signed_url(
        self,
        key: str,
        *,
        expires_s: int,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """See Objects.signed_url; the API serves it at /v1/objects/<key>."""
        check_url_options(expires_s, filename, content_type)
        query = {"expires": str(int(self._now()) + expires_s)}
        if filename is not None:
            query["filename"] = filename
        if content_type is not None:
            query["content_type"] = content_type
        query["signature"] = self._signature(check_key(key), query, _SIGNED)
        return f"{self._public_url}/v1/objects/{key}?{urlencode(query)}"

    def signed_put_url(self, key: str, *, expires_s: int, size: int) -> str:
        """See Objects.signed_put_url; the API accepts it at /v1/objects/<key>."""
        check_url_options(expires_s, None, None)
        query = {"expires": str(int(self._now()) + expires_s), "size": str(size)}
        query["signature"] = self._signature(_PUT + check_key(key), query, _SIGNED_PUT)
        return f"{self._public_url}/v1/objects/{key}?{urlencode(query)}"

    def verify_put(self, key: str, query: Mapping[str, str]) -> int:
        """Return the number of bytes a signed URL allows. Raises BadRequest like `verify`."""
        self._verify(_PUT + key, query, _SIGNED_PUT)
        return int(query["size"])

    def verify(self, key: str, query: Mapping[str, str]) -> Path:
        """Return the file that a signed URL names. Afterwards `filename` and `content_type` in
        `query` can be trusted.

        Raises:
            BadRequest: bad_signature or url_expired, status 403.
            ObjectMissing: the URL is valid, but the object is gone.
        """
        self._verify(key, query, _SIGNED)
        path = self._path(key)
        if not path.is_file():
            raise ObjectMissing("The object no longer exists.")
        return path

    def check(self) -> None:
        """See Objects.check."""
        with _errors():
            self._prepare()
        if not os.access(self._root / _PARTIAL, os.R_OK | os.W_OK | os.X_OK):
            raise StorageUnavailable("The object directory is not writable.")

    def _verify(self, what: str, query: Mapping[str, str], names: tuple[str, ...]) -> None:
        signed = {name: query[name] for name in names if name in query}
        given = query.get("signature", "")
        # As bytes: compare_digest rejects non-ASCII text.
        genuine = any(
            hmac.compare_digest(given.encode(errors="replace"), expected.encode())
            for expected in self._signatures(what, signed, names)
        )
        if "expires" not in signed or not genuine:
            raise BadRequest("bad_signature", "The URL was not signed by this service.", status=403)
        if int(signed["expires"]) < self._now():
            raise BadRequest("url_expired", "The URL has expired; ask for a new one.", status=403)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _signature(self, what: str, query: Mapping[str, str], names: tuple[str, ...]) -> str:
        return next(self._signatures(what, query, names))

    def _signatures(
        self, what: str, query: Mapping[str, str], names: tuple[str, ...]
    ) -> Iterator[str]:
        """One for each key."""
        # JSON: with a plain separator, one field could pose as two.
        message = json.dumps([what, *(query.get(name) for name in names)]).encode()
        for key in self._keys:
            yield hmac.new(key, message, "sha256").hexdigest()

    def _open_new(self, partial: Path) -> io.FileIO:
        try:
            return partial.open("xb", buffering=0)
        except FileNotFoundError:  # the first object of all, or the directory was emptied
            self._prepare()
            return partial.open("xb", buffering=0)

    def _prepare(self) -> None:
        partial = self._root / _PARTIAL
        if not partial.is_dir():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial.mkdir(exist_ok=True)

    def _drop_abandoned(self, older_than: datetime) -> None:
        for name, path in _walk(self._root / _PARTIAL, ""):
            info = _info(name, path)
            if info and info.modified < older_than:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"The object directory failed: {error.strerror}.") from error


def _write(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a write may be cut short, for example by a full disk
        view = view[file.write(view) :]


def _move(partial: Path, path: Path) -> None:
    """Rename, creating directories as needed. A concurrent delete may remove them as empty at any
    moment, even halfway through mkdir. Each failed round means that a delete won a race, so the
    bound is far beyond any losing streak."""
    for _ in range(1000):
        try:
            partial.replace(path)
            return
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                path.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(path)


def _info(key: str, path: Path) -> ObjectInfo | None:
    try:
        found = path.stat()
    except _ABSENT:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """Yield keys in S3's order: by character, "/" included."""
    try:
        entries = list(os.scandir(folder))
    except _ABSENT:
        return  # never written to, or emptied meanwhile
    names = [entry.name + "/" * entry.is_dir() for entry in entries]
    for name in sorted(names):
        if name.startswith("."):
            continue
        if name.endswith("/"):
            yield from _walk(folder / name, prefix + name)
        else:
            yield prefix + name, folder / name
