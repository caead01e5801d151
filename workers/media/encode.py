"""Frames to MP4: H.264, yuv420p, playable while it loads. Needs only PyAV and numpy."""

import tempfile
from collections.abc import Iterable
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


def encode_mp4(frames: Iterable[np.ndarray], fps: int) -> bytes:
    """Encode frames, one at a time.

    A frame is (H, W, 3) uint8 RGB, or (H * 3 / 2, W) uint8 YUV 4:2:0, BT.709 in limited range: Y,
    below it U, then V. yuv420p needs even sides, so an odd side gets a copy of its last row or
    column; cropping would lose part of the picture.

    Raises EncodeError for no frames or frames of different sizes, and whatever `frames` raises.
    """
    # A file, because moving the index to the front (faststart) reads the output again.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as output:
            stream = None
            for frame in frames:
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
    """Options that make libx264 give the same bytes for the same frames.

    Its AVX-512 lookahead reads past the end of rows whose length is not a multiple of 64, so
    whatever memory lies there decides bit rates: clips of the same frames differed in size. AVX2
    does not. Set only where AVX-512 exists, because it overrides the CPU detection.
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
    # By default the conversion uses BT.601's matrix, which contradicts the stream's BT.709 tag:
    # players would show wrong colours.
    return picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
