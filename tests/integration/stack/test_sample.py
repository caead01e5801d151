"""The animated WebP that `scripts/demo --sample` writes."""

import numpy as np
import pytest
from PIL import Image

from scripts.stack import sample
from workers.media.encode import encode_mp4


@pytest.fixture
def clip(tmp_path):
    """24 frames of noise at 24 fps: hard to compress."""
    rng = np.random.default_rng(7)
    frames = [rng.integers(0, 255, (128, 192, 3), dtype=np.uint8) for _ in range(24)]
    path = tmp_path / "noise.mp4"
    path.write_bytes(encode_mp4(iter(frames), 24))
    return path


def test_a_still_is_shown_next_to_the_clip(clip, tmp_path):
    sample.write_sample(clip, tmp_path / "out.webp")
    with Image.open(tmp_path / "out.webp") as image:
        assert (image.size, image.n_frames, image.info["loop"]) == ((908, 300), 12, 0)
        image.seek(0)
        first = np.asarray(image.convert("RGB"), dtype=float)
        image.seek(6)
        later = np.asarray(image.convert("RGB"), dtype=float)
    left, right = (np.abs(first - later)[:, part].mean() for part in (slice(450), slice(458, None)))
    assert right > 5 * left
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".mp4"] == ["out.webp"]


def test_a_sample_that_is_too_big_is_compressed_more(clip, tmp_path, monkeypatch):
    sample.write_sample(clip, tmp_path / "fine.webp")
    size = (tmp_path / "fine.webp").stat().st_size
    monkeypatch.setattr(sample, "MAX_BYTES", round(0.7 * size))
    sample.write_sample(clip, tmp_path / "small.webp")
    assert (tmp_path / "small.webp").stat().st_size <= 0.7 * size
