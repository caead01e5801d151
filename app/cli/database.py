"""The server's database, for commands that work in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from sqlalchemy.exc import ArgumentError, ProgrammingError

from app.config.settings import ConfigError, Settings
from app.store.session import Store


def _option(*variables: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--database-url",
        envvar=variables,
        show_envvar=True,
        required=True,
        help="The server's Postgres.",
    )


database_option = _option("DATABASE_URL")
# Migrations need sessions of their own, so not through a pooler of transactions.
migrator_option = _option("DATABASE_DIRECT_URL", "DATABASE_URL")


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
            "The database has no tables of Stillmotion; run `stillmotion migrate`."
        ) from None
    finally:
        store.close()
