"""Postgres and Valkey for one machine, run by our own supervisor, and a folder for objects."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.stack.data import DataDir
from scripts.stack.errors import StackError
from scripts.stack.postgres import SHARED_BUFFERS, Postgres
from scripts.stack.supervisor import Supervisor
from scripts.stack.valkey import Valkey

# Recovery after a crash replays the log; it took 2.6 s on an almost empty database.
READY_S = 60.0


class Services:
    """Postgres, Valkey and a folder for objects; each only if the environment names no other.

    `data`: a held directory, a path, or None for a temporary one. `environ` may hold DATABASE_URL,
    REDIS_URL and OBJECTS_URL; no server is started for one that is set. Usable as a context
    manager. After `open()`, `env` holds the three variables and SECRET_KEY.

    `valkeys`: names of additional Valkeys to start, whatever `environ` holds; their URLs are in
    `redis_urls`. `shared_buffers`: Postgres' own memory.
    """

    def __init__(
        self,
        data: DataDir | Path | None = None,
        *,
        valkeys: Sequence[str] = (),
        shared_buffers: str = SHARED_BUFFERS,
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
        self._shared_buffers = shared_buffers
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
            if "REDIS_URL" not in self._given:
                own_env["REDIS_URL"] = self._start(Valkey(self.data, ports["valkey"]))
            if "DATABASE_URL" not in self._given:
                postgres = Postgres(self.data, ports["postgres"], self._shared_buffers)
                own_env["DATABASE_URL"] = self._start(postgres)
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
