"""Finds the subject of each picture once, next to the first denoising steps, and remembers it.

A picture is often animated again with another seed or prompt: its matte, and the plates that it was
taken apart into, are kept for a few pictures.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

from workers.pipeline.alpha import subject_in
from workers.pipeline.matte import MatteModel
from workers.pipeline.plates import Plates, Reach

PICTURES = 8  # whose mattes are kept: half a megabyte each
PLATES = 4  # that are kept: up to some 10 MB each

T = TypeVar("T")


class Recent(Generic[T]):
    """The results used last. Safe between threads; each result is made once at a time."""

    def __init__(self, most: int):
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


class Subjects:
    """Mattes and plates of pictures, (H, W, 3) uint8."""

    def __init__(self, model: MatteModel | None):
        """model: None finds no subject in any picture."""
        self._model = model
        self._mattes: Recent[np.ndarray | None] = Recent(PICTURES)
        self._plates: Recent[Plates] = Recent(PLATES)
        self._thread: ThreadPoolExecutor | None = None

    def start(self, picture: np.ndarray) -> "Future[np.ndarray | None]":
        """Begin to find the picture's subject: its matte at the model's size, or None."""
        if self._model is None:
            nothing: Future[np.ndarray | None] = Future()
            nothing.set_result(None)
            return nothing
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="matte")
        return self._thread.submit(self.find, picture)

    def forget(self) -> None:
        """Drop everything kept, so that the next clip is like a new picture's."""
        self._mattes.clear()
        self._plates.clear()

    def find(self, picture: np.ndarray) -> np.ndarray | None:
        """The matte of the picture's subject, at the model's size; None: it has none."""
        model = self._model
        if model is None:
            return None
        height, width = picture.shape[:2]
        return self._mattes.get(digest(picture), lambda: subject_in(model(picture), height, width))

    def plates(
        self,
        key: str,
        picture: np.ndarray,
        matte: np.ndarray | None,
        ground: Reach,
        body: Reach,
        yuv: bool,
    ) -> Plates:
        """The plates of a picture, whose `key` is the digest of the picture at its clip's size."""
        whole = (key, picture.shape, ground, body, yuv)
        return self._plates.get(whole, lambda: Plates.of(picture, matte, ground, body, yuv=yuv))


def digest(picture: np.ndarray) -> str:
    """A name for the pixels of a picture."""
    found = hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16)
    found.update(repr(picture.shape).encode())
    return found.hexdigest()
