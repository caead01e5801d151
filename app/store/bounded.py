"""A Postgres connection that waits a bounded time for each answer."""

from typing import Any, Self

import psycopg
from psycopg.abc import RV, PQGen

GRACE_S = 2.0  # beyond the server's own timeouts, for their error to arrive


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up on a server, or a path to it, that acknowledges everything and answers nothing.

    The server enforces `statement_timeout` itself, and neither keepalives nor `tcp_user_timeout`
    notice a proxy or a frozen backend whose kernel still acknowledges. A connection that times out
    is closed, because the next answer on it would belong to the previous statement.
    """

    answer_s: float | None = None

    @classmethod
    def within(cls, timeout_s: float, *args: Any, **options: Any) -> Self:
        """Connect, and wait for each answer at most `timeout_s` plus GRACE_S."""
        connection = cls.connect(*args, **options)
        connection.answer_s = timeout_s + GRACE_S
        return connection

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """After `answer_s`, close the connection and raise OperationalError."""
        if timeout is not None or self.answer_s is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_s)
        except psycopg.errors._WaitTimeout as error:
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"no answer from the server within {self.answer_s:.0f} s"
            ) from error
