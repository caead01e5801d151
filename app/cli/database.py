"""The server's database, for commands that work in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import ArgumentError, ProgrammingError

from app.config.settings import ConfigError, Settings
from app.store.session import Store


@contextmanager
def open_store(url: str) -> Iterator[Store]:
    """Raises ConfigError if this is not a migrated database of ours."""
    try:
        store = Store(Settings.model_construct(database_url=url).sqlalchemy_url, pool_size=1)
    except ArgumentError:
        raise ConfigError("DATABASE_URL is not a database URL.") from None
    try:
        yield store
    except ProgrammingError:
        raise ConfigError(
            "The database has no tables of Stillmotion; run `alembic upgrade head`."
        ) from None
    finally:
        store.close()
