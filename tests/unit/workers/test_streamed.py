"""Encoding while frames are still being made: the same bytes, and an end in every case."""

import threading

import numpy as np
import pytest

from workers.media.decode import decode_mp4
from workers.media.encode import EncodeError, encode_mp4
from workers.media.streamed import StreamedClip


def noise(count=12, side=64):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side * 3 // 2, side), dtype=np.uint8) for _ in range(count)]


def encoders():
    return [each for each in threading.enumerate() if each.name == "encode"]


def test_the_bytes_are_those_of_frames_encoded_at_once():
    frames = noise()
    assert StreamedClip.of(frames, 12).video() == encode_mp4(frames, 12)


def test_frames_are_encoded_while_others_are_made():
    """The last frame waits until the encoder has taken the first ones, so none is left of them."""
    held = []

    def frames():
        made = noise()
        yield from made[:-1]
        clip_taken.wait(20)
        yield made[-1]

    clip_taken = threading.Event()
    made = iter(frames())

    class Watched(StreamedClip):
        def _taken(self):
            for count, frame in enumerate(super()._taken(), 1):
                yield frame
                if count == len(noise()) - 1:
                    held.append(self.size_bytes)
                    clip_taken.set()

    clip = Watched.of(made, 12)
    assert clip_taken.is_set()
    assert held == [0]
    assert len(list(decode_mp4(clip.video()))) == 12
    assert clip.size_bytes == 0


def test_what_the_frames_raise_ends_the_encoder():
    def frames():
        yield from noise(3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        StreamedClip.of(frames(), 12)
    for each in encoders():
        each.join(20)
    assert not encoders()


def test_an_exception_while_waiting_ends_the_encoder():
    clip = StreamedClip(12)  # whose frames never end

    def canceled():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clip.video(canceled)
    for each in encoders():
        each.join(20)
    assert not encoders()


def test_the_encoders_own_error_is_raised_to_who_waits():
    frames = [*noise(2), *noise(1, side=32)]
    clip = StreamedClip.of(frames, 12)
    with pytest.raises(EncodeError, match=r"48, 32"):
        clip.video()


def test_who_waits_is_called_meanwhile():
    clip = StreamedClip(12)
    calls = []

    def on_wait():
        calls.append(1)
        if len(calls) == 3:
            clip._add(noise(1)[0])
            clip._end()

    assert clip.video(on_wait)
    assert len(calls) >= 3
