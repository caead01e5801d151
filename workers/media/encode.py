"""Frames to MP4: H.264, yuv420p, playable while it loads. Needs PyAV and numpy only."""

import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

# Chosen by measurement over 48 frames of 512x512: tests/unit/workers/test_encode.py.
CRF = "18"
PRESET = "veryfast"
BT709 = 1  # the number of BT.709 in H.264's tables of primaries, transfer and matrix


class EncodeError(Exception):
    """The frames cannot become a clip."""


class EncodeStopped(EncodeError):
    """should_stop() said so; nothing was produced."""


def encode_mp4(
    frames: Iterable[np.ndarray], fps: int, *, should_stop: Callable[[], bool] | None = None
) -> bytes:
    """Encode (H, W, 3) uint8 RGB frames, one at a time.

    Or (H * 3 / 2, W) uint8 YUV 4:2:0, BT.709 in limited range: Y, below it U, then V.

    An odd side gets one more row or column, a copy of the last: yuv420p needs even sides, and
    cutting would lose a part of the picture. should_stop() is asked before each frame.

    Raises EncodeError for no frames or frames of different sizes, EncodeStopped.
    """
    # A file, since moving the index to the front (faststart) reads the output again.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as output:
            stream = None
            for frame in frames:
                if should_stop is not None and should_stop():
                    raise EncodeStopped("Encoding was stopped.")
                if stream is None:
                    shape = frame.shape
                    stream = _add_stream(output, shape, fps)
                if frame.shape != shape:
                    raise EncodeError(f"A frame of {frame.shape} follows frames of {shape}.")
                output.mux(stream.encode(_to_yuv(frame)))
            if stream is None:
                raise EncodeError("There are no frames to encode.")
            output.mux(stream.encode(None))
        return path.read_bytes()


def _add_stream(
    output: av.container.OutputContainer, shape: tuple[int, ...], fps: int
) -> av.VideoStream:
    options = {"crf": CRF, "preset": PRESET, **_deterministic()}
    stream = output.add_stream("libx264", rate=fps, options=options)
    height, width = shape[:2] if len(shape) == 3 else (shape[0] * 2 // 3, shape[1])
    stream.width, stream.height = width + width % 2, height + height % 2
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = ColorRange.MPEG
    return stream


@cache
def _deterministic() -> dict[str, str]:
    """libx264's AVX-512 lookahead reads past the ends of rows whose length is no multiple of 64.

    What happens to lie there then decides bit rates: the same frames gave clips of different sizes.
    With AVX2 they give the same bytes. Named only where it exists: it overrides the detection.
    """
    cpu = Path("/proc/cpuinfo")
    has_avx512 = cpu.exists() and "avx512f" in cpu.read_text()
    return {"x264-params": "asm=AVX2"} if has_avx512 else {}


def _to_yuv(frame: np.ndarray) -> av.VideoFrame:
    if frame.ndim == 2:
        return av.VideoFrame.from_ndarray(frame, format="yuv420p")
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    # Without a target the conversion uses BT.601's matrix, and players show other colours than the
    # stream's tag promises.
    return picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
