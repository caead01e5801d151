"""Alembic's entry: one migrator at a time, and none that blocks the service for long."""

import time
from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection, create_engine, text

from app.config.settings import settings
from app.store.schema import METADATA

# Any constant will do; it is this project's among the advisory locks of the database.
MIGRATION_LOCK = 0x5717_1107
ANOTHER_S = 60.0  # to wait for another migrator

if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)


def run() -> None:
    # `stillmotion migrate` knows the URL; alembic's own command reads the server's settings.
    url = context.config.attributes.get("database_url") or settings().sqlalchemy_direct_url
    engine = create_engine(url)
    with engine.connect() as connection:
        _wait_for_others(connection)
        try:
            # A DDL statement that queues behind a long transaction blocks everybody behind it.
            connection.execute(text("SET lock_timeout = '4s'"))
            connection.execute(text("SET statement_timeout = '30s'"))
            connection.commit()
            context.configure(
                connection=connection,
                target_metadata=METADATA,
                compare_server_default=False,
                transaction_per_migration=True,
            )
            with context.begin_transaction():
                context.run_migrations()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
    engine.dispose()


def _wait_for_others(connection: Connection) -> None:
    """Take the lock of migrators; raises TimeoutError.

    Asks again and again: a statement that waits for the lock has a snapshot, and the other
    migrator's concurrent index build would wait for that, which is a deadlock.
    """
    give_up = time.monotonic() + ANOTHER_S
    take = text("SELECT pg_try_advisory_lock(:key)")
    while not connection.execute(take, {"key": MIGRATION_LOCK}).scalar_one():
        connection.rollback()
        if time.monotonic() > give_up:
            raise TimeoutError("Another migration is running.")
        time.sleep(0.2)


run()
