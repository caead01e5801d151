"""Inspect processes, and small processes to inspect."""

import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from scripts.stack.supervisor import Spec


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def running(pid: int) -> bool:
    """Zombies do not count: in a container they may remain until it ends."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def marked(mark: str) -> list[int]:
    """Live processes with `mark` among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes() and running(int(path.parent.name)):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def stub(name: str, code: str, folder: Path, *arguments: str, grace_s: float = 1.0) -> Spec:
    """The Spec of a Python process for the supervisor."""
    argv = [sys.executable, "-I", "-S", "-c", textwrap.dedent(code), *arguments]
    return Spec(name=name, argv=argv, env={}, cwd=folder, grace_s=grace_s)


SLEEPER = "import time; time.sleep(600)"
STUBBORN = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(600)
"""
PARENT = f"""
    import subprocess, sys
    subprocess.run([sys.executable, "-c", {SLEEPER!r}, sys.argv[1]])
"""
