"""Gives the memory of large pictures back to the system."""

import contextlib
import ctypes

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE_BYTES = 1 << 20


def give_back_large_blocks() -> None:
    """Have every block of LARGE_BYTES or more returned to the system as soon as it is free.

    glibc raises that threshold with the first large block that is freed, and from then on keeps
    such blocks: up to 64 MB for each of many threads. Does nothing with another C library.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
