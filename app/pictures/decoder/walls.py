"""What a warm decoder gives up, so that a hostile picture that takes it over finds nothing."""

import contextlib
import ctypes
import math
import os
import resource
import sys

from app.pictures.decoder import seccomp

# Every decoder is a user of its own, so that the kernel keeps them apart and counts their threads;
# systemd's documentation calls these numbers unused. Inside a user namespace they may not exist.
_FIRST_USER = 1_900_000_000
_NOBODY = 65_534
_MOST_THREADS = 4
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38  # linux/prctl.h


def confine(memory_bytes: int) -> list[str]:
    """Drop everything that decoding does not need, for good.

    Several walls forbid the same: each one alone stops a decoder from opening files and sockets or
    starting programs where the others are missing.

    Returns:
        The walls that this system lacks: "user", "filter".
    """
    lacking = []
    os.nice(5)  # the API answers first
    # libtiff prints warnings about a file to stderr, and strangers must not write to our log.
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    if not _leave_root():
        lacking.append("user")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Not 3: closing one of 0, 1 and 2 would make room for another file or socket.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    if os.getuid() >= _FIRST_USER:  # other users have more processes than this one
        # Not 0: the HEVC decoder needs a thread.
        resource.setrlimit(resource.RLIMIT_NPROC, (_MOST_THREADS, _MOST_THREADS))
    if sys.platform != "darwin":  # macOS refuses this limit; only the time limit applies there
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        # Other decoders have the same user; none may look into another's memory.
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not seccomp.install():
        lacking.append("filter")
    return lacking


def limit_cpu(seconds: int) -> None:
    """Have the kernel end this process after `seconds` more CPU time, even if nobody waits."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = math.ceil(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, resource.RLIM_INFINITY))


def _leave_root() -> bool:
    """Become a user that owns nothing. False: this process stays root."""
    if os.geteuid() != 0:
        return True
    for user in (_FIRST_USER + os.getpid(), _NOBODY):
        # OSError: a container without CAP_SETUID, or a user namespace without this user.
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            return True
    return False
