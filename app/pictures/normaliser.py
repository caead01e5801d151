"""Turn an uploaded file into a safe picture, in a confined child process.

Hostile files attack decoders, so the API process never runs one. It checks the first bytes and
hands the file to a child (`child.py`) with a memory limit, a CPU limit, an empty environment and
no way to open a file or socket. A child that dies or takes too long is replaced.
"""

import contextlib
import hashlib
import math
import queue
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from app.domain.errors import BadRequest, Transient

CONTENT_TYPE = "image/jpeg"

# Shown to the API's caller: code -> (HTTP status, sentence).
REFUSALS = {
    "empty_image": (422, "The picture is empty."),
    "upload_too_large": (413, "The picture's file is too large."),
    "not_an_image": (422, "The file is not a picture (JPEG, PNG, WebP, GIF, BMP or TIFF)."),
    "unsupported_image_format": (
        415,
        "Pictures of this format are not supported; send JPEG, PNG, WebP, GIF, BMP or TIFF.",
    ),
    "truncated_image": (422, "The picture is truncated or damaged."),
    "image_too_large": (413, "The picture has more than 50 megapixels."),
    "image_too_small": (422, "Each side of the picture must have at least 16 pixels."),
    "unsupported_aspect_ratio": (
        422,
        "The longer side of the picture may be at most 8 times the shorter one.",
    ),
    "image_too_complex": (422, "The picture takes too much time or memory to decode."),
}

# The protocol of child.py, which cannot be imported here because it imports Pillow.
_REQUEST = struct.Struct("!4sII")
_RESPONSE = struct.Struct("!III")
_READY = b"ready"
_UNEXPECTED = b"unexpected: "
_CHILD = Path(__file__).with_name("child.py")

_START_TIMEOUT_S = 30.0
_MAX_ANSWER_BYTES = 64_000_000
# Each untrusted file makes a process a little less trustworthy, so replace it after this many.
_RECYCLE_AFTER = 1000

log = structlog.get_logger()


@dataclass(frozen=True)
class Picture:
    """A normalised picture: an upright sRGB JPEG with even sides and no metadata."""

    data: bytes
    width: int
    height: int
    content_type: str
    sha256: str


def sniff(data: bytes) -> str:
    """Return Pillow's name of the format that the first bytes announce.

    File names and content types are not trusted, so neither is a parameter.

    Raises:
        BadRequest: empty_image, unsupported_image_format or not_an_image.
    """
    if not data:
        raise _refusal("empty_image")
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    # Text can begin with "BM", so the header's length field must be a valid one, too.
    if data.startswith(b"BM") and data[14:18] in _BMP_HEADERS:
        return "BMP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    known = data.startswith(_OTHER_FORMATS) or data[4:8] == b"ftyp"  # HEIC, AVIF
    if known or b"<svg" in data[:1024].lower():
        raise _refusal("unsupported_image_format")
    raise _refusal("not_an_image")


_BMP_HEADERS = tuple(size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124))
_OTHER_FORMATS = (
    b"%!PS",
    b"\xc5\xd0\xd3\xc6",  # EPS with a preview
    b"%PDF",
    b"8BPS",  # Photoshop
    b"\0\0\1\0",  # icon
    b"\0\0\0\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",  # JPEG 2000 codestream
    b"\xff\x0a",  # JPEG XL
    b"\0\0\0\x0cJXL ",
    b"qoif",
)


class Normaliser:
    """A pool of child processes that decode pictures for any number of threads.

    Create it after the server has forked; the children start with the first picture. A child that
    dies, exceeds its memory or works longer than `timeout_s` is replaced.
    """

    def __init__(
        self,
        processes: int = 1,
        memory_mb: int = 1024,
        timeout_s: float = 10.0,
        max_bytes: int = 25_000_000,
    ):
        self._max_bytes = max_bytes
        self._memory_mb = memory_mb
        self._timeout_s = timeout_s
        # One entry per possible child; None is one that has yet to be started. Last in, first out
        # keeps few children busy and their memory warm.
        self._free: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        self._processes = processes
        for _ in range(processes):
            self._free.put(None)

    def normalise(self, data: bytes, *, max_side: int = 2048) -> Picture:
        """Decode, turn upright, convert to sRGB, shrink and re-encode as JPEG.

        Accepts JPEG, PNG, WebP, GIF (first frame), BMP and TIFF of any mode, up to `max_bytes` and
        50 megapixels. Transparency is laid on white. The longer side is shrunk to `max_side` pixels
        but never enlarged; an odd side loses one row or column. EXIF (GPS included), XMP, IPTC,
        colour profiles and comments are removed.

        Raises:
            BadRequest: with a code of REFUSALS.
            Transient: `pictures_busy` if no child becomes free within `timeout_s`,
                `pictures_unavailable` if none can be started.
        """
        if len(data) > self._max_bytes:
            raise _refusal("upload_too_large")
        fmt = sniff(data)
        try:
            child = self._free.get(timeout=self._timeout_s)
        except queue.Empty:
            raise Transient(
                "Too many pictures are being decoded right now.", code="pictures_busy"
            ) from None
        keep = None
        try:
            if child is not None and not child.alive():  # killed while idle
                child.stop()
                child = None
            if child is None:
                child = _Child(self._memory_mb, self._timeout_s)
            width, height, out = child.ask(fmt, max_side, data)
            if child.served < _RECYCLE_AFTER and out != b"image_too_complex":
                keep = child
        except _ChildLost as error:
            log.warning("picture_child_replaced", error=str(error))
            raise _refusal("image_too_complex") from error
        finally:
            if child is not None and keep is None:
                child.stop()
            self._free.put(keep)
        if not width:
            raise _refusal(out.decode())
        return Picture(out, width, height, CONTENT_TYPE, hashlib.sha256(out).hexdigest())

    def close(self) -> None:
        """Stop the children once they have finished their current pictures."""
        for _ in range(self._processes):
            child = self._free.get()
            if child is not None:
                child.stop()
        for _ in range(self._processes):
            self._free.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _ChildLost(Exception):
    """The child died, or had to be killed, while working on a picture."""


class _Child:
    def __init__(self, memory_mb: int, timeout_s: float):
        self._timeout_s = timeout_s
        self.served = 0
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # Isolated mode imports nothing from the working directory.
                [sys.executable, "-I", str(_CHILD), str(memory_mb), str(math.ceil(timeout_s) + 1)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={},  # keep our secrets from it
                cwd="/",
                start_new_session=True,  # no Ctrl-C for it; it ends when its socket closes
            )
        try:
            self._receive(len(_READY), time.monotonic() + _START_TIMEOUT_S)
        except (_ChildLost, TimeoutError) as error:
            self.stop()
            log.error("picture_child_start_failed", error=str(error))
            raise Transient(
                "Pictures cannot be decoded right now.", code="pictures_unavailable"
            ) from error

    def alive(self) -> bool:
        """Whether the process is still running."""
        return self._process.poll() is None

    def ask(self, fmt: str, max_side: int, data: bytes) -> tuple[int, int, bytes]:
        """Return width, height and JPEG, or 0, 0 and a code.

        Raises:
            _ChildLost: it died or took too long.
        """
        self.served += 1
        deadline = time.monotonic() + self._timeout_s
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(_REQUEST.pack(fmt.encode(), max_side, len(data)) + data)
            width, height, length = _RESPONSE.unpack(self._receive(_RESPONSE.size, deadline))
            if max(width, height) > max_side or length > _MAX_ANSWER_BYTES:
                raise _ChildLost(f"it answered {width}x{height}, {length} bytes")
            out = self._receive(length, deadline)
            if not width and out.startswith(_UNEXPECTED):
                raise _ChildLost(f"{fmt}: {out!r}")
            return width, height, out
        except TimeoutError:
            raise _ChildLost(f"{fmt} took longer than {self._timeout_s} s") from None
        except OSError as error:
            raise _ChildLost(f"{fmt}: {error}") from error

    def stop(self) -> None:
        """Kill the process, whatever it is doing."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _receive(self, size: int, deadline: float) -> bytes:
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            # Zero would mean non-blocking.
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            count = self._socket.recv_into(view)
            if not count:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=1)
                raise _ChildLost(f"it ended with status {self._process.returncode}")
            view = view[count:]
        return bytes(buffer)


def _refusal(code: str) -> BadRequest:
    status, sentence = REFUSALS[code]
    return BadRequest(code, sentence, status=status, pointer="/image")
