"""One decoder process, seen from ours."""

import contextlib
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import structlog

from app.domain.errors import Transient
from app.pictures.undumpable import hide_from_own_user

# The protocol of decoder/server.py, which cannot be imported here because it imports Pillow.
_REQUEST = struct.Struct("!4sI?BBBI")
_RESPONSE = struct.Struct("!III")
_READY = b"ready"
_UNEXPECTED = b"unexpected: "

_ROOT = Path(__file__).parents[2]
# Isolated mode leaves the path alone, so that the decoder imports nothing from a working directory.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from app.pictures.decoder.server import main;"
    " main(int(sys.argv[2]), int(sys.argv[3]))"
)

_START_TIMEOUT_S = 30.0
_MAX_ANSWER_BYTES = 64_000_000

log = structlog.get_logger()

Colour = tuple[int, int, int]


class DecoderLost(Exception):
    """The process died, or had to be killed, while working on a picture."""


class Limits(NamedTuple):
    memory_mb: int
    cpu_s: int  # CPU time of one picture
    timeout_s: float  # time of one picture, however busy the machine is


class Decoder:
    """A running decoder. Raises Transient, `pictures_unavailable`, if it cannot be started."""

    def __init__(self, limits: Limits):
        self._timeout_s = limits.timeout_s
        self.served = 0
        self.spent = False  # it ran out of memory once
        hide_from_own_user()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    *("-I", "-c", _PROGRAM, str(_ROOT)),
                    *(str(limits.memory_mb * 2**20), str(limits.cpu_s)),
                ],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={},  # keep our secrets from it
                cwd="/",
                start_new_session=True,  # no Ctrl-C for it; it ends when its socket closes
            )
        try:
            self._greet()
        except (DecoderLost, TimeoutError, OSError) as error:
            self.stop()
            log.error("picture_child_start_failed", error=str(error))
            raise Transient(
                "Pictures cannot be decoded right now.", code="pictures_unavailable"
            ) from error

    def alive(self) -> bool:
        """Whether the process is still running."""
        return self._process.poll() is None

    def ask(
        self, fmt: str, max_side: int, background: Colour | None, data: bytes
    ) -> tuple[int, int, bytes]:
        """Return width, height and JPEG, or 0, 0 and a code.

        Raises:
            DecoderLost: it died or took too long.
        """
        self.served += 1
        deadline = time.monotonic() + self._timeout_s
        colour = background or (0, 0, 0)
        request = _REQUEST.pack(fmt.encode(), max_side, background is not None, *colour, len(data))
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(request)
            self._socket.sendall(data)
            width, height, length = _RESPONSE.unpack(self._receive(_RESPONSE.size, deadline))
            if max(width, height) > max_side or length > _MAX_ANSWER_BYTES:
                raise DecoderLost(f"it answered {width}x{height}, {length} bytes")
            self.spent = not width and bool(height)
            out = self._receive(length, deadline)
            if not width and out.startswith(_UNEXPECTED):
                raise DecoderLost(f"{fmt}: {out!r}")
            return width, height, out
        except TimeoutError:
            raise DecoderLost(f"{fmt} took longer than {self._timeout_s} s") from None
        except OSError as error:
            raise DecoderLost(f"{fmt}: {error}") from error

    def stop(self) -> None:
        """Kill the process, whatever it is doing."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _greet(self) -> None:
        """Wait until it is warm and confined."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        line = self._receive(len(_READY), deadline)
        while not line.endswith(b"\n"):
            line += self._receive(1, deadline)
        if lacking := line[len(_READY) : -1].decode():
            log.warning("picture_walls_missing", walls=lacking.split(","))

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
                raise DecoderLost(f"it ended with status {self._process.returncode}")
            view = view[count:]
        return bytes(buffer)
