"""Run two actors' transactions one statement at a time, in any order."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from tests.support.statements import hear

POLL_S = 0.02  # before asking the server whether a statement waits for a lock
GIVE_UP_S = 20.0


class Crashed(Exception):
    """The database crashed in the middle of an actor's work."""


class Actor:
    """Runs work in a thread that pauses before every statement and commit."""

    def __init__(self, stage: "Stage", name: str):
        self.stage, self.name = stage, name
        self.pid = 0
        self.busy = False
        self._go = threading.Semaphore(0)
        self._arrived = threading.Event()
        self._crashing = False

    def start(self, work: Callable[["Actor"], None]) -> None:
        """Start the work and pause before its first statement."""
        self.busy = True
        self._arrived.clear()

        def run() -> None:
            self.stage.local.actor = self
            try:
                work(self)
            except (Crashed, DBAPIError) as error:
                # A deadlock is an error like any other: its transaction has no effect.
                self.stage.failures.append((self.name, str(error).splitlines()[0]))
            except BaseException as error:
                self.stage.broken = error
            finally:
                self.busy = False
                self._arrived.set()

        threading.Thread(target=run, daemon=True).start()
        self._settle()

    def step(self) -> None:
        """Run one statement. Returns at the next one, at the end, or if it waits for a lock."""
        if self.busy and self._arrived.is_set():
            self._arrived.clear()
            self._go.release()
        if self.busy:
            self._settle()

    def _settle(self) -> None:
        waited_s = 0.0
        while not self._arrived.wait(POLL_S):
            waited_s += POLL_S
            if self.pid and self.stage.is_blocked(self.pid):
                return
            assert waited_s < GIVE_UP_S, f"{self.name} hangs"

    def pause(self) -> None:
        self._arrived.set()
        self._go.acquire()
        if self._crashing:
            raise Crashed(self.name)

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        """One transaction; its commit is a step like any statement."""
        with self.stage.engine.connect() as connection:
            # Also after the end: a number that blocks nobody.
            self.pid = connection.connection.driver_connection.info.backend_pid
            with connection.begin():
                yield connection
                lazy = connection.execute(text("SHOW synchronous_commit")).scalar_one() == "off"
            self.stage.committed(lazy)

    def crash(self) -> None:
        """End any work in progress, as a dying server does."""
        if not self.busy:
            return
        self._crashing = True
        if not self._arrived.is_set() and self.pid:
            self.stage.terminate(self.pid)
        self._go.release()
        while self.busy:  # even if it catches the error, it must not continue
            self._go.release()
            time.sleep(0.002)
        self._crashing = False
        self._go = threading.Semaphore(0)
        self._arrived.clear()


class Stage:
    """Two actors on one database, and the history that a crash may roll back.

    A commit that waits for the disk makes all earlier ones durable. A crash may undo any number of
    the latest commits since then.
    """

    TABLES = ("api_keys", "jobs", "attempts", "webhook_deliveries")

    def __init__(self, url: str):
        options = {"options": "-c deadlock_timeout=50ms"}
        self.engine: Engine = create_engine(url, pool_size=4, max_overflow=0, connect_args=options)
        self._watch = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=2)
        self.local = threading.local()
        self.broken: BaseException | None = None
        self.failures: list[tuple[str, str]] = []
        self.actors = [Actor(self, "a"), Actor(self, "b")]
        self.commits = 0
        self.keeps_history = False
        self._history: list[dict[str, Any]] = []
        event.listen(self.engine, "connect", lambda given, _: hear(given, before=self._before))

    def _before(self, *_: object) -> None:
        actor = getattr(self.local, "actor", None)
        if actor is not None:
            actor.pause()

    def query(self, sql: str, **values: object) -> list[Any]:
        """Query the committed state."""
        with self._watch.connect() as connection:
            return list(connection.execute(text(sql), values))

    def run(self, sql: str, **values: object) -> None:
        with self._watch.connect() as connection:
            connection.execute(text(sql), values)

    def is_blocked(self, pid: int) -> bool:
        return bool(self.query("SELECT cardinality(pg_blocking_pids(:pid)) > 0", pid=pid)[0][0])

    def terminate(self, pid: int) -> None:
        self.query("SELECT pg_terminate_backend(:pid)", pid=pid)

    def committed(self, lazy: bool) -> None:
        self.commits += 1
        if not self.keeps_history:
            return
        if not lazy:
            self._history.clear()
        self._history.append(self._snapshot())

    @property
    def losable(self) -> int:
        """How many commits a crash could undo now."""
        return max(0, len(self._history) - 1)

    def crash(self, lost: int) -> None:
        """End both actors' work and undo the last `lost` commits."""
        for actor in self.actors:
            actor.crash()
        self.engine.dispose()
        # Anything the actors committed while they were being ended is as durable as the rest.
        lost = min(lost, self.losable)
        if lost:
            del self._history[-lost:]
            self._restore(self._history[-1])

    def _snapshot(self) -> dict[str, Any]:
        rows = {
            table: self.query(f"SELECT coalesce(json_agg(t), '[]')::text FROM {table} AS t")[0][0]
            for table in self.TABLES
        }
        sequences = self.query(
            "SELECT schemaname || '.' || sequencename, last_value FROM pg_sequences"
            " WHERE last_value IS NOT NULL"
        )
        return {"rows": rows, "sequences": [tuple(row) for row in sequences]}

    def _restore(self, snapshot: dict[str, Any]) -> None:
        with self._watch.connect() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(self.TABLES)} CASCADE"))
            for table, rows in snapshot["rows"].items():
                connection.execute(
                    text(
                        f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM"
                        f" json_populate_recordset(NULL::{table}, CAST(:rows AS json))"
                    ),
                    {"rows": rows},
                )
            for name, value in snapshot["sequences"]:
                connection.execute(
                    text("SELECT setval(CAST(:name AS regclass), :value)"),
                    {"name": name, "value": value},
                )

    def close(self) -> None:
        for actor in self.actors:
            actor.crash()
        self.engine.dispose()
        self._watch.dispose()
