"""A Postgres of a test's own, that can crash, and a standby that can replace it."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from scripts.stack.data import DataDir
from scripts.stack.postgres import Postgres
from scripts.stack.programs import POSTGRES
from scripts.stack.user import give, server_user
from tests.support import services

# The service's role may neither copy a server nor change its settings.
SUPERUSER = """
host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
"""


class CrashingPostgres:
    """A private Postgres that surely loses its unflushed commits in a crash."""

    def __init__(self, data: DataDir):
        self._server = Postgres(data, services.free_port())
        self._data = data
        self.url = self._server.url
        self.folder = data.path / "postgres"
        with (self.folder / "pg_hba.conf").open("a") as access:
            access.write(SUPERUSER)
        self._child: subprocess.Popen | None = None

    def start(self, *settings: str) -> None:
        """Start with these settings, each `name=value`, in addition."""
        spec = self._server.spec
        options = [part for setting in settings for part in ("-c", setting)]
        user = {} if spec.user is None else {"user": spec.user[0], "group": spec.user[1]}
        with (self._data.path / "postgres.log").open("ab") as log:
            self._child = subprocess.Popen(
                [*map(str, spec.argv), "-c", "autovacuum=off", *options],
                env=dict(spec.env),
                cwd=spec.cwd,
                stdout=log,
                stderr=log,
                **user,
                **({"extra_groups": []} if user else {}),
            )
        services.wait_until(lambda: self._server.ready(self._child.pid), self._child, 60)

    def hold_the_log(self) -> None:
        """From now on only a commit that waits for the disk reaches it."""
        os.kill(self._backend("walwriter"), signal.SIGSTOP)

    def _backend(self, kind: str) -> int:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = %s"
        [[pid]] = self.query(query, kind)
        return pid

    def query(self, query: str, *values: object) -> list[tuple]:
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            return connection.execute(query, values).fetchall()

    @property
    def superuser_url(self) -> str:
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=f"postgres@127.0.0.1:{parts.port}"))

    def crash(self) -> None:
        """SIGQUIT: every process ends at once, nothing is written, the next start recovers."""
        self._child.send_signal(signal.SIGQUIT)
        self._child.wait(30)

    def replace_with(self, folder: Path) -> None:
        """Make a base backup the data of this server, which must be down."""
        shutil.rmtree(self.folder)
        shutil.copytree(folder, self.folder)
        self.folder.chmod(0o700)
        for path in (self.folder, *self.folder.rglob("*")):
            give(path, server_user())

    def close(self) -> None:
        if self._child.poll() is None:
            self.crash()
        self._data.close()


class Standby(CrashingPostgres):
    """A streaming replica of another server."""

    def __init__(self, data: DataDir, primary: CrashingPostgres):
        super().__init__(data)  # its cluster gives way to a copy of the primary's
        shutil.rmtree(self.folder)
        tool = POSTGRES.find(data).with_name("pg_basebackup")
        subprocess.run(
            [
                tool,
                "-D",
                self.folder,
                "-d",
                primary.superuser_url,
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
            ],
            check=True,
            timeout=60,
            capture_output=True,
        )
        for path in (self.folder, *self.folder.rglob("*")):
            give(path, server_user())
        # Its data, roles and passwords are the primary's; only the port is its own.
        self.url = primary.url.replace(_port(primary.url), _port(self.url))

    def stop_receiving(self) -> None:
        """From now on no commit of the primary arrives."""
        os.kill(self._backend("walreceiver"), signal.SIGSTOP)

    def promote(self) -> None:
        """Become a primary, with what has arrived."""
        os.kill(self._backend("walreceiver"), signal.SIGKILL)
        services.wait_until(self._try_to_promote, self._child, 60)

    def _try_to_promote(self) -> bool:
        try:
            return self.query("SELECT pg_promote()") == [(True,)]
        except psycopg.OperationalError:
            return False  # a killed process makes the server start over, as a standby still


def _port(url: str) -> str:
    return f":{urlsplit(url).port}/"
