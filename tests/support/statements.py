"""Hear every statement that a connection sends, whoever sends it: SQLAlchemy or our own code."""

from collections.abc import Callable
from typing import Any

import psycopg

Listener = Callable[[Any, Any], None]  # the statement, its values


def hear(
    connection: psycopg.Connection[Any],
    *,
    before: Listener | None = None,
    after: Listener | None = None,
) -> Callable[[], None]:
    """Call the listeners around each statement. Returns what ends that."""

    class Heard(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> "Heard":
            if before is not None:
                before(query, params)
            super().execute(query, params, **options)
            if after is not None:
                after(query, params)
            return self

    usual = connection.cursor_factory
    connection.cursor_factory = Heard

    def stop() -> None:
        connection.cursor_factory = usual

    return stop
