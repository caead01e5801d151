"""A clip that is encoded while its frames are still being made."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from threading import Condition, Thread

import numpy as np

from workers.media.encode import encode_mp4

LOOK_S = 0.05  # how often one who waits for the end says so


class Stopped(Exception):
    """The encoder was told to give up."""


class StreamedClip:
    """Frames on their way into an MP4, in a thread of its own.

    Neither side waits for the other: frames that the encoder has not taken yet stay in memory.
    """

    def __init__(self, fps: int):
        self._change = Condition()
        self._frames: deque[np.ndarray] = deque()
        self._complete = self._stopped = False
        self._video: Future[bytes] = Future()
        Thread(target=self._encode, args=(fps,), name="encode", daemon=True).start()

    @classmethod
    def of(cls, frames: Iterable[np.ndarray], fps: int) -> "StreamedClip":
        """Start to encode frames, as `encode_mp4` takes them. Returns when the last one is made.

        Raises what `frames` raises.
        """
        clip = cls(fps)
        try:
            for frame in frames:
                clip._add(frame)
        except BaseException:
            clip.stop()
            raise
        clip._end()
        return clip

    @property
    def size_bytes(self) -> int:
        """The memory of the frames that are not encoded yet."""
        with self._change:
            return sum(frame.nbytes for frame in self._frames)

    def video(self, on_wait: Callable[[], None] = lambda: None) -> bytes:
        """Wait for the MP4. Calls on_wait several times a second, at least once; an exception from
        it stops the encoder.

        Raises what `encode_mp4` raises.
        """
        try:
            on_wait()
            while not wait([self._video], LOOK_S).done:
                on_wait()
            return self._video.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Give up the clip, and release its frames."""
        with self._change:
            self._stopped = True
            self._frames.clear()
            self._change.notify()

    def _add(self, frame: np.ndarray) -> None:
        with self._change:
            self._frames.append(frame)
            self._change.notify()

    def _end(self) -> None:
        with self._change:
            self._complete = True
            self._change.notify()

    def _encode(self, fps: int) -> None:
        try:
            self._video.set_result(encode_mp4(self._taken(), fps))
        except BaseException as error:
            self._video.set_exception(error)

    def _taken(self) -> Iterator[np.ndarray]:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._frames or self._complete or self._stopped)
                if self._stopped:
                    raise Stopped
                if not self._frames:
                    return
                frame = self._frames.popleft()
            yield frame
