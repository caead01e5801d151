"""Databases that tests and benchmarks have of their own, beside the service's."""

import time

import psycopg
from psycopg import sql

DROP_S = 30.0


def drop_database(connection: psycopg.Connection, name: str) -> None:
    """Drop a database, if it is there, with its sessions. Raises psycopg.Error.

    Those of autovacuum belong to another role, which ours must not end. They end by themselves.
    """
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    give_up = time.monotonic() + DROP_S
    while True:
        try:
            connection.execute(statement)
            return
        except psycopg.errors.InsufficientPrivilege:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.2)
