"""An animated WebP of a picture next to its clip, small enough for a web page."""

from pathlib import Path

import av
from PIL import Image

HEIGHT = 300
MAX_BYTES = 1_500_000
GAP = 8  # white pixels between the two
FPS = 12
QUALITIES = (80, 60, 40, 20)


def write_sample(clip: Path, target: Path) -> None:
    """Write the clip with its first frame as a still on its left.

    Uses the best of QUALITIES that fits into MAX_BYTES, or else the last one. Raises OSError.
    """
    frames = _read(clip)
    canvases = [_side_by_side(frames[0], frame) for frame in frames]
    draft = target.with_name(f".{target.name}.new")
    try:
        for quality in QUALITIES:
            canvases[0].save(
                draft,
                "WEBP",
                save_all=True,
                append_images=canvases[1:],
                duration=1000 // FPS,
                loop=0,
                quality=quality,
                method=6,
            )
            if draft.stat().st_size <= MAX_BYTES:
                break
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _read(clip: Path) -> list[Image.Image]:
    """Frames at FPS, scaled to HEIGHT. The first frame of a clip is the picture itself."""
    frames = []
    with av.open(str(clip), "r") as container:
        stream = container.streams.video[0]
        every = max(1, round(float(stream.average_rate or FPS) / FPS))
        for n, frame in enumerate(container.decode(stream)):
            if n % every == 0:
                width = round(frame.width * HEIGHT / frame.height)
                image = Image.fromarray(frame.to_ndarray(format="rgb24"))
                frames.append(image.resize((width, HEIGHT), Image.Resampling.LANCZOS))
    return frames


def _side_by_side(still: Image.Image, frame: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", (2 * still.width + GAP, HEIGHT), "white")
    canvas.paste(still, (0, 0))
    canvas.paste(frame, (still.width + GAP, 0))
    return canvas
