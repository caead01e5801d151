"""Building and dropping indexes while the service runs.

CREATE INDEX CONCURRENTLY waits for every transaction that is older than it, a backup's snapshot
included. Nobody queues behind that wait, so it may be long; env.py's short lock_timeout, which
protects the service from a DDL statement that blocks others, would only stop it half-way and leave
an INVALID index.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from alembic import op

PATIENCE = "30min"  # for the transactions that were open before


def exchange(
    table: str, *, build: Mapping[str, str], drop: Mapping[str, str] | None = None
) -> None:
    """Build indexes, then drop those that they replace. Can be run again after it failed.

    `build`: index name -> its columns and condition, as after `ON table`. `drop`: the same, of
    which only the names are used.
    """
    with patiently():
        for name, definition in build.items():
            # A build that failed earlier has left an INVALID index.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {table} {definition}")
        for name in drop or {}:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


@contextmanager
def patiently() -> Iterator[None]:
    """Outside a transaction, as CONCURRENTLY wants it, with env.py's limits put back at the end."""
    # What this migration did before is committed here; a second run must find it harmless.
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        limits = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("lock_timeout", "statement_timeout")
        }
        for name in limits:
            op.execute(f"SET {name} = '{PATIENCE}'")
        try:
            yield
        finally:
            for name, value in limits.items():
                op.execute(f"SET {name} = '{value}'")
