"""The stack's data directory: its location, lock, secrets and ports."""

import contextlib
import fcntl
import hashlib
import json
import os
import random
import secrets
import socket
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from scripts.stack.errors import DirectoryInUse, StackError
from scripts.stack.user import server_user, works_as

ROOT = Path(__file__).resolve().parents[2]
# Below Linux's range for outgoing connections, so that no client socket can take a chosen port.
PORTS = range(20_000, 32_000)
REAPER_S = 20.0
Value = TypeVar("Value", str, int)


def choose_directory(environ: Mapping[str, str], chosen: Path | None = None) -> tuple[Path, str]:
    """Where to keep data: (directory, a notice if it is not the usual place, else "").

    `chosen`, else STILLMOTION_DATA, else .stillmotion in the repository. Only that default has a
    fallback outside the repository, in case it cannot be used.
    """
    if chosen is not None:
        return chosen, ""
    if environ.get("STILLMOTION_DATA"):
        return Path(environ["STILLMOTION_DATA"]), ""
    usual = ROOT / ".stillmotion"
    problem = prepare(usual)
    if not problem:
        return usual, ""
    if os.geteuid() == 0:
        base = Path("/var/lib")
    else:
        base = Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    fallback = base / "stillmotion" / hashlib.sha256(bytes(ROOT)).hexdigest()[:12]
    return fallback, f"{problem}; keeping data in {fallback}."


def prepare(path: Path) -> str:
    """Create a data directory. Returns the problem with it, or ""."""
    user = server_user()
    try:
        path.mkdir(parents=True, exist_ok=True)
        # The user nobody must be able to reach its own folders; secrets have stricter modes.
        path.chmod(0o711 if user else 0o700)
    except OSError as error:
        return f"The data directory {path} cannot be written ({error.strerror})"
    if user and not works_as(user, ["/bin/sh", "-c", 'cd "$0"', path.resolve()]):
        return f"The user nobody, as whom root's Postgres runs, cannot reach {path}"
    return ""


class DataDir:
    """A data directory, held by one stack at a time.

    `None` creates a temporary one, which close() removes. Raises StackError if the directory
    cannot be used, DirectoryInUse if another stack holds it.
    """

    def __init__(self, path: Path | None):
        self._temporary = None
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="stillmotion-")
            path = Path(self._temporary.name)
        problem = prepare(path)
        if problem:
            raise StackError(f"{problem}; choose another with --data or STILLMOTION_DATA.")
        self.path = path.resolve()
        self.lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock()
        self.logs = self.folder("logs")

    @property
    def temporary(self) -> bool:
        return self._temporary is not None

    def _lock(self) -> None:
        """Take the lock. The reaper of a killed stack still holds it for a few seconds."""
        deadline = time.monotonic() + REAPER_S
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(self.lock_fd, 20, 0).decode()
            if (holder and exists(int(holder))) or time.monotonic() > deadline:
                self.close()
                raise DirectoryInUse(
                    f"Another stack (pid {holder or 'unknown'}) is using {self.path}; stop it, "
                    "or choose another directory with --data or STILLMOTION_DATA."
                )
            time.sleep(0.05)
        os.truncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, str(os.getpid()).encode(), 0)

    def folder(self, name: str) -> Path:
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def secret(self, name: str) -> str:
        """A URL-safe secret of 256 bits, created on first use and kept."""
        known = self._secrets()
        if name not in known:
            known[name] = secrets.token_urlsafe(32)
            self._write("secrets.json", known)
        return known[name]

    def recall(self, name: str) -> str | None:
        """A secret stored by `keep`, or None."""
        return self._secrets().get(name)

    def keep(self, name: str, value: str) -> None:
        self._write("secrets.json", {**self._secrets(), name: value})

    def ports(self, names: Iterable[str]) -> dict[str, int]:
        """A free loopback port for each name; the previous one if it is still free."""
        known = self._read("ports.json", int)
        names = list(names)
        taken = {port for other, port in known.items() if other not in names}
        for name in names:
            port = known.get(name, 0)
            while port in taken or not is_free(port):
                port = random.choice(PORTS)
            known[name] = port
            taken.add(port)
        self._write("ports.json", known)
        return known

    def _secrets(self) -> dict[str, str]:
        return self._read("secrets.json", str)

    def _read(self, name: str, kind: type[Value]) -> dict[str, Value]:
        path = self.path / name
        try:
            read = json.loads(path.read_text()) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise StackError(f"{path} cannot be read: {error}.") from None
        if not isinstance(read, dict):
            raise StackError(f"{path} cannot be read: it is not a JSON object.")
        return {str(key): kind(value) for key, value in read.items()}

    def _write(self, name: str, value: Mapping[str, str | int]) -> None:
        fd, temporary = tempfile.mkstemp(dir=self.path)  # mode 0600
        with os.fdopen(fd, "w") as file:
            json.dump(value, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self.path / name)

    def close(self) -> None:
        """Release the directory."""
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.cleanup()


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        pass
    return True


def is_free(port: int) -> bool:
    """Whether a server can listen on this loopback port."""
    if not port:
        return False
    with socket.socket() as probe:
        # As the servers do, so that their lingering connections do not make the port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True
