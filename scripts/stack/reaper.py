"""Ends the stack's processes when the supervisor asks for it, or dies.

Reads lines from standard input: `+ PID STAGE SIGNAL GRACE` (started), `- PID` (ended), `stop`. At
`stop` or end of file it ends the remaining processes stage by stage: first SIGNAL, then SIGKILL to
the whole process group after GRACE seconds. It runs in its own session and ignores the usual
signals, so it outlives a supervisor killed with -9. A pipe rather than PR_SET_PDEATHSIG, which is
Linux only, has no order, and fires when the *thread* that forked ends.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

TICK_S = 0.02


def alive(pid: int) -> bool:
    """Whether `pid` is running. Zombies do not count: their new parent may never collect them."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # no /proc on this system, or just gone
        return not Path("/proc/self").exists()
    return state != "Z"


def end(processes: dict[int, tuple[int, float]]) -> None:
    """End process groups {leader's pid: (signal, grace_s)} and wait for them."""
    for pid, (number, _) in processes.items():
        for each in (number, signal.SIGCONT):  # a suspended process would not handle the first
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, each)
    deadline = time.monotonic() + max(grace_s for _, grace_s in processes.values())
    while time.monotonic() < deadline and any(map(alive, processes)):
        time.sleep(TICK_S)
    for pid in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)  # including any children it left


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    stages: dict[int, dict[int, tuple[int, float]]] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", pid, stage, number, grace_s]:
                stages.setdefault(int(stage), {})[int(pid)] = int(number), float(grace_s)
            case ["-", pid]:
                for processes in stages.values():
                    processes.pop(int(pid), None)
            case ["stop"]:
                break
    for _, processes in sorted(stages.items()):
        if processes:
            end(processes)


if __name__ == "__main__":
    main()
