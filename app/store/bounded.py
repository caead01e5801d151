"""A Postgres connection that waits for no answer longer than it was told to."""

from typing import Any, Self

import psycopg
from psycopg.abc import RV, PQGen

GRACE_S = 2.0  # beyond the server's own timeouts, for their error to arrive


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up on a server, or a path to it, that acknowledges everything and answers nothing.

    `statement_timeout` is the server's to enforce, and neither keepalives nor `tcp_user_timeout`
    notice a proxy or a frozen backend whose kernel still acknowledges. A connection that waited in
    vain is closed: its next answer would be that of the statement before.
    """

    answer_s: float | None = None

    @classmethod
    def within(cls, timeout_s: float, *args: Any, **options: Any) -> Self:
        """Connect, and wait for each answer at most `timeout_s` and GRACE_S."""
        connection = cls.connect(*args, **options)
        connection.answer_s = timeout_s + GRACE_S
        return connection

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Also raises OperationalError, with the connection closed, after `answer_s`."""
        if timeout is not None or self.answer_s is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_s)
        except psycopg.errors._WaitTimeout as error:
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"no answer from the server within {self.answer_s:.0f} s"
            ) from error
