"""Two applications with our promise: a picture and a job that outlive the answer in Postgres.

Both have gunicorn with two processes, two workers with one render at a time each, a database of
their own in the stack's Postgres, which flushes, and a directory next to its objects.
"""

import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from psycopg import sql

from scripts.benchmarks.client import Client
from scripts.benchmarks.flushes import Chain
from scripts.benchmarks.peers.peer import Peer
from scripts.stack import StackError
from scripts.stack.data import ROOT
from scripts.stack.databases import drop_database
from scripts.stack.stack import Stack, answers
from scripts.stack.supervisor import Spec

WORKERS = 2
SCHEMA_S = 60.0
UNSAFE = """
    SELECT name FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting <> 'on'
"""


class DurableApplication(Peer):
    """A Flask application with a database and workers."""

    module: ClassVar[str]
    done_query: ClassVar[str]  # of ids: how many are done, and when the last one was
    ready_path = "/ready"

    def __init__(self, python: Path, stack: Stack):
        super().__init__(python, stack)
        self._server = stack.env["DATABASE_URL"]
        self._database = f"peer_{self.name}"
        self.database_url = urlunsplit(urlsplit(self._server)._replace(path=f"/{self._database}"))
        self.broker = stack.env["REDIS_URL"].rsplit("/", 1)[0] + "/5"  # a database of its own
        self.storage = self.folder / "storage"

    @abstractmethod
    def worker(self, n: int) -> Sequence[str | Path]:
        """The arguments of one worker."""

    def processes(self) -> Mapping[str, Sequence[str | Path]]:
        workers = {f"{self.name}:worker-{n}": self.worker(n) for n in range(WORKERS)}
        web: list[str | Path] = [
            *(self.bin / "python", "-m", "gunicorn", f"{self.module}:app"),
            *("--workers", "2", "--threads", "4", "--keep-alive", "30"),
            *("--bind", f"127.0.0.1:{self.port}", "--no-control-socket"),
        ]
        return {f"{self.name}:web": web, **workers}

    def env(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            "PEER_DATABASE": self.database_url,
            "PEER_BROKER": self.broker,
            "PEER_STORAGE": str(self.storage),
        }

    def spec(self, name: str, argv: Sequence[str | Path]) -> Spec:
        plain = super().spec(name, argv)
        ready_file = self._ready_file(name)
        env = {**plain.env, "PEER_READY": str(ready_file)}
        return Spec(name, argv, env, self.folder, grace_s=plain.grace_s, ready_file=ready_file)

    def client(self) -> Client:
        return Client(self.url)

    @contextmanager
    def resources(self) -> Iterator[None]:
        """The database with its tables, and an empty storage. Raises StackError."""
        self._drop()  # what a run that was killed left
        self.storage.mkdir()
        try:
            with psycopg.connect(self._server, autocommit=True) as conn:
                unsafe = conn.execute(UNSAFE).fetchall()
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self._database)))
            if unsafe:
                raise StackError(f"Postgres may lose what it commits: {unsafe} are not on.")
            self._create_tables()
            yield
        finally:
            self._drop()

    def _create_tables(self) -> None:
        argv: list[str | Path] = [self.bin / "python", "-m", self.module, "schema"]
        schema = self.spec(f"{self.name}:schema", argv)
        code, _ = self._supervisor.run(schema, SCHEMA_S)
        if code != 0:
            line = self._supervisor.last_line(schema.name)
            raise StackError(f"{self.name} could not create its tables: {line}")

    def _drop(self) -> None:
        with psycopg.connect(self._server, autocommit=True) as conn:
            drop_database(conn, self._database)
        with redis.Redis.from_url(self.broker, socket_timeout=5) as queues:
            queues.flushdb()
        shutil.rmtree(self.storage, ignore_errors=True)

    def ready(self) -> bool:
        return answers(self.url + self.ready_path) and all(
            self._ready_file(f"{self.name}:worker-{n}").exists() for n in range(WORKERS)
        )

    def last_done(self, ids: list[str]) -> float | None:
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            [(count, last)] = conn.execute(self.done_query, (ids,)).fetchall()
        return float(last) if count == len(ids) else None

    def _ready_file(self, name: str) -> Path:
        return self.folder / f"{name.replace(':', '-')}.ready"


class Plain(DurableApplication):
    """Flask, a row in Postgres, a Celery task over Valkey that is acknowledged late."""

    name = "plain"
    durability = (
        "picture in storage and row in Postgres, both flushed before the response; "
        "a lost message is sent again after 5 min; nothing fences a task that is delivered twice"
    )
    chain = Chain(objects=2, commits=2)  # picture, row, clip, end
    module = "scripts.benchmarks.peers.plain_service"
    done_query = """
        SELECT count(*), extract(epoch FROM max(finished_at)) FROM jobs
        WHERE id = ANY(%s::uuid[]) AND state = 'succeeded'
    """

    def worker(self, n: int) -> Sequence[str | Path]:
        return self._celery(
            *("worker", "--pool=prefork", "--concurrency=1", f"--hostname=worker-{n}@plain"),
            *("--without-gossip", "--without-mingle"),
        )

    def processes(self) -> Mapping[str, Sequence[str | Path]]:
        beat = self._celery("beat", "--schedule", str(self.folder / "beat"), "--pidfile=")
        return {**super().processes(), "plain:beat": beat}

    def _celery(self, *arguments: str) -> Sequence[str | Path]:
        return [self.bin / "python", "-m", "celery", "-A", f"{self.module}:celery", *arguments]


class Procrastinate(DurableApplication):
    """Flask and Procrastinate, whose queue is a table in Postgres."""

    name = "procrastinate"
    durability = (
        "picture in storage and row in Postgres, both flushed before the response; a dead worker's "
        "job is retried by a task of the application; nothing fences the worker if it still lives"
    )
    chain = Chain(objects=2, commits=3)  # picture, row, taken, clip, end
    module = "scripts.benchmarks.peers.procrastinate_service"
    done_query = """
        SELECT count(*), extract(epoch FROM max(at)) FROM procrastinate_events
        WHERE job_id = ANY(%s::bigint[]) AND type = 'succeeded'
    """

    def worker(self, n: int) -> Sequence[str | Path]:
        return [self.bin / "python", "-m", self.module, "work"]
