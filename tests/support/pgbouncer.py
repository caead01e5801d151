"""A private PgBouncer of Debian: not a system service, loopback only."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.support import documents, services
from tests.support.documents import Place

GUIDE = "docs/guides/operating.md"
TIMEOUTS = documents.blocks(GUIDE)[Place(GUIDE, "PgBouncer", 0)]  # for the role app
BINARY = Path("/usr/sbin/pgbouncer")
CONFIG = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
ignore_startup_parameters = {ignore}
logfile =
pidfile =
"""


@contextlib.contextmanager
def pgbouncer(
    database_url: str, *, mode: str = "transaction", size: int = 4, ignore: str = ""
) -> Iterator[str]:
    """Yields the pooler's URL for the same database. `size`: of its pool of connections."""
    services.need("pgbouncer", BINARY.exists())
    parts, listen = urlsplit(database_url), services.free_port()
    config = CONFIG.format(
        host=parts.hostname,
        port=parts.port,
        user=parts.username,
        password=parts.password,
        listen=listen,
        mode=mode,
        size=size,
        ignore=ignore,
    )
    with tempfile.TemporaryDirectory(prefix="stillmotion-pgbouncer-") as directory:
        Path(directory).chmod(0o755)  # it refuses to run as root
        file = Path(directory) / "pgbouncer.ini"
        file.write_text(config)
        user = {"user": "nobody"} if os.geteuid() == 0 else {}
        with services.process(
            [BINARY, "-q", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user
        ) as child:
            url = f"postgresql://{parts.username}@127.0.0.1:{listen}{parts.path}"
            services.wait_until(lambda: _answers(url), child)
            yield url


def _answers(url: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


@contextlib.contextmanager
def role_with_timeouts(database_url: str) -> Iterator[None]:
    """Gives the tests' role what the guide asks for, and takes it back."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(TIMEOUTS.encode())
        yield
        connection.execute("ALTER ROLE CURRENT_USER RESET ALL")
