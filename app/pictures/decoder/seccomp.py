"""The system calls that a decoder may still make once it is warm: a seccomp-BPF filter.

An allow-list; everything else fails with EPERM. Man page seccomp(2); the layout of the data that
the filter sees is in linux/seccomp.h. Decision 58 says why it is written out here.
"""

import ctypes
import platform
import struct
import sys
from typing import NamedTuple


class _Machine(NamedTuple):
    audit_arch: int  # linux/audit.h
    seccomp: int  # number of the call that installs a filter
    column: int  # in _ALLOWED


_MACHINES = {"x86_64": _Machine(0xC000003E, 317, 0), "aarch64": _Machine(0xC00000B7, 277, 1)}

# Numbers on x86_64 and aarch64. None of these opens, connects, signals or runs anything.
_ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "exit": (60, 93),
    "getcwd": (79, 17),  # Pillow asks for it when it writes to memory
    "getrusage": (98, 165),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
}
_PRLIMIT64, _CLONE, _CLONE3 = (302, 261), (56, 220), (435, 435)
_CLONE_THREAD = 0x00010000  # linux/sched.h

# linux/bpf_common.h and linux/seccomp.h
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_IF_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data
_X32_BIT = 0x40000000  # the other set of numbers of an x86_64 kernel
_SET_MODE_FILTER, _ALL_THREADS = 1, 1

_Instruction = tuple[int, int, int, int]  # code, skip if true, skip if false, operand


def install() -> bool:
    """Forbid every other system call to all threads of this process, for good.

    Needs no_new_privs. Returns False where there is no such filter: other systems, other
    processors, kernels built without it.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None or sys.maxsize < 2**32:
        return False
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _program(machine))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    done: int = libc.syscall(
        ctypes.c_long(machine.seccomp), _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)
    )
    return done == 0


class _Program(ctypes.Structure):  # struct sock_fprog
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def _program(machine: _Machine) -> list[_Instruction]:
    deny = (_RETURN, 0, 0, _ERRNO | _EPERM)
    program = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, machine.audit_arch),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NR),
        (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        deny,
    ]
    for numbers in _ALLOWED.values():
        program += [(_JUMP_EQUAL, 0, 1, numbers[machine.column]), (_RETURN, 0, 0, _ALLOW)]
    # The HEVC decoder needs a thread, which is not a process. The C library falls back to clone,
    # because a filter cannot see the flags of clone3.
    program += [
        (_JUMP_EQUAL, 0, 1, _CLONE3[machine.column]),
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
        (_JUMP_EQUAL, 0, 4, _CLONE[machine.column]),
        (_LOAD, 0, 0, _ARGS),
        (_JUMP_IF_SET, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        deny,
    ]
    # The decoder renews its own CPU limit, RLIMIT_CPU = 0 of process 0; no other limit.
    own_cpu_limit: list[_Instruction] = []
    for argument in (0, 1):
        for half in (0, 4):
            own_cpu_limit += [
                (_LOAD, 0, 0, _ARGS + 8 * argument + half),
                (_JUMP_EQUAL, 1, 0, 0),
                deny,
            ]
    own_cpu_limit.append((_RETURN, 0, 0, _ALLOW))
    program += [(_JUMP_EQUAL, 0, len(own_cpu_limit), _PRLIMIT64[machine.column]), *own_cpu_limit]
    return [*program, deny]
