"""The engine, and transactions that raise DatabaseUnavailable when the connection fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.config.settings import Settings
from app.domain.errors import DatabaseUnavailable
from app.metrics import database_wait_seconds
from app.store.bounded import BoundedConnection

# In the WHERE of an UPDATE or INSERT: always true, and its commit does not wait for the disk.
# Placements, begins and renewals use it. Commits are flushed in order, so a crash of the database
# takes back the last of them together with everything after; submits, cancels and ends always wait.
# docs/decisions/10 and 49 say what that means.
NO_WAIT = "set_config('synchronous_commit', 'off', true) = 'off'"


class Store:
    """A bounded pool of connections to one Postgres.

    `timeout_s` bounds each of: connecting, waiting for a pooled connection, waiting for a lock, one
    statement. `pooled`: a PgBouncer in transaction mode is in between. It passes on no settings of
    a session, so the role must have these timeouts, and every transaction may get another server
    process, which does not know what was prepared in the last.

    Connections of `engine` itself may be in autocommit: they stay as they were last used.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, timeout_s: float = 5.0, pooled: bool = False
    ):
        milliseconds = int(timeout_s * 1000)
        own: dict[str, Any] = {"options": session_options(timeout_s)}
        if pooled:
            own = {"prepare_threshold": None}
        self.engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout_s,
            skip_autocommit_rollback=True,  # between single statements there is nothing to undo
            # A server that vanished must not hold a thread for TCP's two hours.
            connect_args={
                "connect_timeout": max(1, round(timeout_s)),
                **own,
                "tcp_user_timeout": milliseconds,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "application_name": "stillmotion",
            },
        )
        event.listen(
            self.engine,
            "do_connect",
            lambda dialect, record, args, options: BoundedConnection.within(
                timeout_s, *args, **options
            ),
        )

    @classmethod
    def of(cls, config: Settings, *, pool_size: int) -> Self:
        """The database of a process, through its pooler if it has one."""
        return cls(
            config.sqlalchemy_url,
            pool_size=pool_size,
            timeout_s=config.database_timeout_s,
            pooled=bool(config.database_direct_url),
        )

    @classmethod
    def direct(cls, config: Settings, *, pool_size: int) -> Self:
        """The database without a pooler, for sessions that hold locks and settings."""
        return cls(
            config.sqlalchemy_direct_url,
            pool_size=pool_size,
            timeout_s=config.database_timeout_s,
        )

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction. Raises DatabaseUnavailable; a commit that fails may still have held."""
        with _database_errors(), self._connected(single=False) as connection, connection.begin():
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """A connection for single statements, without the round trips of BEGIN and COMMIT."""
        with _database_errors(), self._connected(single=True) as connection:
            yield connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection that is closed afterwards, so that its locks and settings end with it.

        Every statement commits by itself. Raises DatabaseUnavailable if the connection is lost.
        """
        with _database_errors(), self._connected(single=True) as connection:
            try:
                yield connection
            finally:
                connection.invalidate()

    @contextmanager
    def _connected(self, *, single: bool) -> Iterator[Connection]:
        """A connection of the pool. The wait for it is counted, also if it was in vain.

        `single`: every statement commits by itself. A connection stays as it was last used, because
        most callers in a process want the same. SQLAlchemy's isolation level AUTOCOMMIT is set and
        taken back each time, which costs as much as a short statement.
        """
        with database_wait_seconds.time():
            connection = self.engine.connect()
        with connection:
            driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
            if driver.autocommit != single:
                driver.autocommit = single
            yield connection

    def check(self) -> None:
        """Raise DatabaseUnavailable unless the database answers."""
        with self.autocommit() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        self.engine.dispose()


def session_options(timeout_s: float) -> str:
    """What a session without a pooler asks for; the last one shows that it was heard."""
    milliseconds = int(timeout_s * 1000)
    return (
        f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
        " -c idle_in_transaction_session_timeout=30000 -c stillmotion.direct=on"
    )


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise DatabaseUnavailable("The database does not answer.") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailable("The database connection was lost.") from error
        raise
