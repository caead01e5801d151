"""Turn an uploaded file into a safe picture, in a confined process.

Hostile files attack decoders, so the API process never runs one. It checks the first bytes and
hands the file to a process (`decoder/`) with a memory limit, a CPU limit, an empty environment and
no way to open a file or socket. A process that dies or takes too long is replaced.
"""

import hashlib
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import structlog

from app.domain.errors import Transient
from app.pictures.process import Colour, Decoder, DecoderLost, Limits
from app.pictures.refusals import refusal
from app.pictures.sniffing import sniff
from app.pictures.turns import Turns

CONTENT_TYPE = "image/jpeg"

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


class Normaliser:
    """A pool of processes that decode pictures for any number of threads.

    Create it after the server has forked; the processes start with the first pictures. One that
    dies, exceeds its memory or `cpu_s`, or works longer than `timeout_s`, is replaced.
    """

    def __init__(
        self,
        processes: int = 1,
        memory_mb: int = 1024,
        cpu_s: int = 3,
        timeout_s: float = 10.0,
        max_bytes: int = 25_000_000,
    ):
        self._limits = Limits(memory_mb, cpu_s, timeout_s)
        self._max_bytes = max_bytes
        self.turns = Turns(processes)
        # At most as many as there are turns. Last in, first out keeps few of them busy and their
        # memory warm.
        self._idle: list[Decoder] = []
        self._processes = processes
        self._lock = threading.Lock()

    def normalise(
        self,
        data: bytes,
        *,
        max_side: int = 2048,
        key: Hashable = None,
        background: Colour | None = None,
    ) -> Picture:
        """Decode, turn upright, convert to sRGB, shrink and re-encode as JPEG.

        Accepts JPEG, PNG, WebP, HEIC, AVIF, GIF (first frame), BMP and TIFF, up to `max_bytes`.
        Transparency is laid on `background` or, for None, on white or what else its shapes stand
        out from. The longer side is shrunk to `max_side` pixels but never enlarged; an odd side
        loses one row or column. EXIF (GPS included), XMP, IPTC, colour profiles and comments are
        removed. Pictures of one `key` never occupy every process, unless there is only one.

        Raises:
            BadRequest: with a code of REFUSALS.
            Transient: `pictures_busy` if no process becomes free within `timeout_s` or too many
                wait for one, `pictures_unavailable` if none can be started.
        """
        if len(data) > self._max_bytes:
            raise refusal("upload_too_large")
        fmt = sniff(data)
        with self.turns.turn(key, self._limits.timeout_s), self._decoder() as decoder:
            width, height, out = decoder.ask(fmt, max_side, background, data)
        if not width:
            raise refusal(out.decode())
        return Picture(out, width, height, CONTENT_TYPE, hashlib.sha256(out).hexdigest())

    @contextmanager
    def _decoder(self) -> Iterator[Decoder]:
        """Borrow a decoder. Whoever breaks one also waits for its replacement."""
        decoder = self._take()
        fresh = False
        try:
            yield decoder
            fresh = not decoder.spent and decoder.served < _RECYCLE_AFTER
        except DecoderLost as error:
            log.warning("picture_child_replaced", error=str(error))
            raise refusal("image_too_complex") from error
        finally:
            if fresh:
                self._put(decoder)
            else:
                decoder.stop()
                self._put(self._started())

    def _take(self) -> Decoder:
        while True:
            with self._lock:
                decoder = self._idle.pop() if self._idle else None
            if decoder is None:
                return Decoder(self._limits)
            if decoder.alive():
                return decoder
            decoder.stop()  # killed while idle

    def _put(self, decoder: Decoder | None) -> None:
        if decoder is not None:
            with self._lock:
                self._idle.append(decoder)

    def _started(self) -> Decoder | None:
        try:
            return Decoder(self._limits)
        except Transient:  # it has been logged; the next caller tries again
            return None

    def close(self) -> None:
        """Stop the processes once they have finished their current pictures."""
        self.turns.wait_until_none()
        with self._lock:
            while self._idle:
                self._idle.pop().stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
