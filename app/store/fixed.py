"""Statements that never change and run for every job, given to psycopg as they are.

SQLAlchemy looks a statement up, makes a context and a result for it, and describes each column:
three times the processor time of psycopg itself for a row of 45 columns. Decision 99.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import psycopg
from sqlalchemy import Connection, TextClause
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError

DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


class Fixed:
    """A statement with SQLAlchemy's parameters, whose declared types are kept."""

    def __init__(self, statement: TextClause):
        self._statement = statement

    def rows(self, tx: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run it. `values` may have more than it takes.

        Raises what SQLAlchemy raises, and gives up a connection that is lost, as it does.
        """
        sql, converters = self._compiled
        given = dict(values)
        for name, convert in converters.items():
            given[name] = convert(given[name])
        driver: psycopg.Connection[Any] = tx.connection.driver_connection  # type: ignore[assignment]
        try:
            with driver.cursor() as cursor:
                cursor.execute(sql, given)
                return cursor.fetchall()
        except psycopg.Error as error:
            lost = driver.closed
            if lost:
                tx.invalidate(error)
            raise DBAPIError.instance(
                sql,
                None,  # they are the caller's, and have no place in a log
                error,
                psycopg.Error,
                connection_invalidated=lost,
                dialect=DIALECT,
            ) from error

    @cached_property
    def _compiled(self) -> tuple[str, dict[str, Any]]:
        """The statement in psycopg's form, and what converts values of a declared type."""
        compiled = self._statement.compile(dialect=DIALECT)
        found = {
            name: bind.type.dialect_impl(DIALECT).bind_processor(DIALECT)
            for name, bind in compiled.binds.items()
        }
        return str(compiled), {name: convert for name, convert in found.items() if convert}
