"""Alembic's entry: one migrator at a time, and none that blocks the service for long."""

from logging.config import fileConfig

from alembic import context
from sqlalchemy import create_engine, text

from app.config.settings import settings
from app.store.models import Base

# Any constant will do; it is this project's among the advisory locks of the database.
MIGRATION_LOCK = 0x5717_1107

if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)


def run() -> None:
    engine = create_engine(settings().sqlalchemy_url)
    with engine.connect() as connection:
        # Waits for another migrator at most this long, then fails with an error.
        connection.execute(text("SET lock_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        try:
            # A DDL statement that queues behind a long transaction blocks everybody behind it.
            connection.execute(text("SET lock_timeout = '4s'"))
            connection.execute(text("SET statement_timeout = '30s'"))
            connection.commit()
            context.configure(
                connection=connection,
                target_metadata=Base.metadata,
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


run()
