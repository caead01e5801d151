"""Inspect processes, and small processes to inspect."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

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


def python_for(uid: int, folder: Path) -> Path:
    """Our interpreter with our libraries where the user can run it: a copy in `folder`.

    Ours may be in a closed home; there it would run with another installation's standard library.
    Skips the test where that user cannot read the libraries.
    """
    base, version = Path(sys.base_prefix), f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = Path(os.__file__).parent
    leave_out = shutil.ignore_patterns("site-packages", "dist-packages", "test", "__pycache__")
    shutil.copytree(library, folder / library.relative_to(base), ignore=leave_out)
    for shared in (base / "lib").glob("libpython*.so*"):
        shutil.copy(shared, folder / "lib")
    (folder / "bin").mkdir()
    python = folder / "bin" / version
    # The path of libpython, if there is one, is built into the binary.
    built_in, ours = str(base / "lib").encode() + b"\0", b"$ORIGIN/../lib"
    content = (base / "bin" / version).read_bytes()
    if len(built_in) > len(ours):
        content = content.replace(built_in, ours.ljust(len(built_in), b"\0"))
    python.write_bytes(content)
    python.chmod(0o755)
    site = Path(pytest.__file__).parents[1]
    (folder / library.relative_to(base) / "site-packages").symlink_to(site)
    check = f"import os, sys, celery; sys.exit((sys.version, {str(folder)!r} in os.__file__) != "
    check += f"({sys.version!r}, True))"
    if subprocess.run([python, "-I", "-c", check], user=uid, cwd="/", env={}).returncode:
        pytest.skip("a copy of this Python cannot be used by another user")
    return python


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
