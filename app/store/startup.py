"""Whether the database, and the way to it, can work at all: asked once, when a process starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from app.config.settings import ConfigError, Settings
from app.store.bounded import BoundedConnection
from app.store.schema import REVISION
from app.store.session import session_options

ROLE_TIMEOUTS = "statement_timeout, lock_timeout and idle_in_transaction_session_timeout"


def check_database(config: Settings) -> None:
    """Raise ConfigError for what waiting does not mend. A database that is away may come back."""
    try:
        with _connection(config, config.sqlalchemy_direct_url, autocommit=True) as direct:
            _check_direct(config, direct)
        if config.database_direct_url:
            with _connection(config, config.sqlalchemy_url) as pooled:
                _check_pooler(pooled)
    except psycopg.OperationalError as error:
        # PgBouncer refuses the settings that a session asks for.
        if "unsupported startup parameter" in str(error):
            raise ConfigError(_leads_to_a_pooler(config)) from None
        if "statement pooling mode" in str(error):
            raise ConfigError("DATABASE_URL: the pooler must be in transaction mode.") from None


@contextmanager
def _connection(config: Settings, url: str, **options: Any) -> Iterator[psycopg.Connection[Any]]:
    timeout_s = config.database_timeout_s
    if options.get("autocommit"):
        options["options"] = session_options(timeout_s)
    try:
        connection = BoundedConnection.within(
            timeout_s,
            url.replace("+psycopg", "", 1),
            connect_timeout=max(1, round(timeout_s)),
            client_encoding="utf8",  # else the texts of an SQL_ASCII database are bytes
            prepare_threshold=None,
            **options,
        )
    except psycopg.ProgrammingError:
        raise ConfigError("DATABASE_URL is not a database URL.") from None
    with connection:
        yield connection


def _check_direct(config: Settings, connection: psycopg.Connection[Any]) -> None:
    if _one(connection, "SELECT current_setting('stillmotion.direct', true)") != "on":
        raise ConfigError(_leads_to_a_pooler(config))  # which ignores what a session asks for
    encoding = _one(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        raise ConfigError(f"The database's encoding is {encoding}, and must be UTF8.")
    try:
        revision = _one(connection, "SELECT version_num FROM alembic_version")
    except psycopg.errors.UndefinedTable:
        revision = None
    if revision is None or revision < REVISION:
        raise ConfigError(
            f"The database's schema is {revision or 'empty'}, and this release needs {REVISION}:"
            " run `stillmotion migrate`."
        )


def _check_pooler(connection: psycopg.Connection[Any]) -> None:
    if _one(connection, "SHOW statement_timeout") == "0":
        raise ConfigError(
            f"Through a pooler the database's role needs {ROLE_TIMEOUTS}:"
            " see PgBouncer in docs/guides/operating.md."
        )


def _one(connection: psycopg.Connection[Any], query: str) -> str | None:
    row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def _leads_to_a_pooler(config: Settings) -> str:
    if config.database_direct_url:
        return "DATABASE_DIRECT_URL leads to a pooler, and must name Postgres itself."
    return "DATABASE_URL leads to a pooler: name Postgres itself in DATABASE_DIRECT_URL as well."
