"""Decodes pictures for the process that started it; serves the socket on standard input.

first    = READY, then the walls that this system lacks, separated by commas, and a line end
request  = REQUEST (format, max_side, has background, red, green, blue, data length), data
response = RESPONSE (width, height, length), then a JPEG; if width is 0, a code or UNEXPECTED.
           Height is then 1 if this process should be replaced.
"""

import contextlib
import io
import socket
import struct
import warnings

from PIL import Image

from app.pictures.decoder import colour, ground, samples, walls
from app.pictures.decoder.picture import normalise
from app.pictures.decoder.refused import Refused

REQUEST = struct.Struct("!4sI?BBBI")
RESPONSE = struct.Struct("!III")
READY = b"ready"
UNEXPECTED = "unexpected: "


def warm_up() -> None:
    """Use every decoder once: Pillow loads lazily, and no file can be opened later."""
    picture = Image.new("RGBA", (32, 32), (*ground.WHITE, 128))
    files = {"AVIF": samples.AVIF, "HEIF": samples.HEIC}
    for fmt in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        file = io.BytesIO()
        picture.convert("RGB" if fmt in ("JPEG", "BMP") else "RGBA").save(file, fmt)
        files[fmt] = file.getvalue()
    for fmt, data in files.items():
        normalise(data, fmt, 16)
        with contextlib.suppress(Refused):
            normalise(b"", fmt, 16)
    colour.warm_up()


def main(memory_bytes: int, cpu_s: int) -> None:
    """Serve standard input until it is closed. `cpu_s`: CPU time of one picture, seconds."""
    warnings.simplefilter("ignore")  # Pillow's remarks about odd files
    sock = socket.socket(fileno=0)
    warm_up()
    lacking = walls.confine(memory_bytes)
    sock.sendall(READY + ",".join(lacking).encode() + b"\n")
    while True:
        fmt, max_side, chosen, *colour, length = REQUEST.unpack(_receive(sock, REQUEST.size))
        data = _receive(sock, length)
        # HEVC takes 0.06 s per megapixel, and its work cannot be inflated beyond its pixels.
        walls.limit_cpu(2 * cpu_s if fmt == b"HEIF" else cpu_s)
        try:
            width, height, out = normalise(
                data, fmt.rstrip(b"\0").decode(), max_side, tuple(colour) if chosen else None
            )
        except Refused as error:
            width, height, out = 0, 0, str(error).encode()
        except MemoryError:
            width, height, out = 0, 1, b"image_too_complex"
        except Exception as error:  # a bug; the parent logs it
            width, height, out = 0, 0, f"{UNEXPECTED}{error!r}"[:300].encode()
        sock.sendall(RESPONSE.pack(width, height, len(out)) + out)


def _receive(sock: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        count = sock.recv_into(view)
        if not count:
            raise SystemExit  # the parent died or closed the socket
        view = view[count:]
    return bytes(buffer)
