"""Keeps other processes of the same user from reading this one's memory and environment."""

import ctypes
import sys

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def hide_from_own_user() -> None:
    """Give this process's /proc entry to root, and forbid others to trace it; forks inherit that.

    The environment holds secrets. A decoder may run as the same user. Linux only; the price is
    that a debugger needs root and that there are no core dumps.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
