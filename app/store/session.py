"""The engine, and transactions that raise DatabaseUnavailable when the connection fails."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.domain.errors import DatabaseUnavailable
from app.store.bounded import BoundedConnection

# In the WHERE of an UPDATE or INSERT: always true, and its commit does not wait for the disk.
# Placements, begins and renewals use it. Commits are flushed in order, so a crash of the database
# takes back the last of them together with everything after; submits, cancels and ends always wait.
# docs/decisions/10 and 49 say what that means.
NO_WAIT = "set_config('synchronous_commit', 'off', true) = 'off'"


class Store:
    """A bounded pool of connections to one Postgres.

    `timeout_s` bounds each of: connecting, waiting for a pooled connection, waiting for a lock, one
    statement.
    """

    def __init__(self, url: str, *, pool_size: int = 10, timeout_s: float = 5.0):
        milliseconds = int(timeout_s * 1000)
        self.engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout_s,
            # A server that vanished must not hold a thread for TCP's two hours.
            connect_args={
                "connect_timeout": max(1, round(timeout_s)),
                "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
                " -c idle_in_transaction_session_timeout=30000",
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
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction. Raises DatabaseUnavailable; a commit that fails may still have held."""
        with _database_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """A connection for single statements, without the round trips of BEGIN and COMMIT."""
        with _database_errors(), self._autocommit.connect() as connection:
            yield connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection that is closed afterwards, so that its locks and settings end with it.

        Every statement commits by itself. Raises DatabaseUnavailable if the connection is lost.
        """
        with _database_errors(), self._autocommit.connect() as connection:
            try:
                yield connection
            finally:
                connection.invalidate()

    def check(self) -> None:
        """Raise DatabaseUnavailable unless the database answers."""
        with self.autocommit() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        self.engine.dispose()


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
