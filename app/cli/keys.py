"""`stillmotion keys`: in the database itself, so that a first key needs none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import click
from sqlalchemy.exc import ArgumentError, ProgrammingError

from app.config.settings import ConfigError, Settings
from app.store import keys
from app.store.session import Store
from stillmotion.cli.options import json_option, print_json


@click.group("keys")
def api_keys() -> None:
    """Make, list and revoke API keys, in the database itself."""


database_option = click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    required=True,
    help="The service's Postgres.",
)


@contextmanager
def _database(url: str) -> Iterator[Store]:
    """The store, with one sentence for a database that is not ours. Raises ConfigError."""
    try:
        store = Store(Settings.model_construct(database_url=url).sqlalchemy_url, pool_size=1)
    except ArgumentError:
        raise ConfigError("DATABASE_URL is not a database's URL.") from None
    try:
        yield store
    except ProgrammingError:
        raise ConfigError("The database lacks our tables; run `alembic upgrade head`.") from None
    finally:
        store.close()


@api_keys.command("create")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--scope", "scopes", type=click.Choice(keys.SCOPES), multiple=True, default=["jobs"])
@click.option("--admin", is_flag=True, help="An operator's key: the scope `admin` besides.")
@click.option(
    "--max-concurrency",
    type=click.IntRange(1),
    help="Jobs that may be placed or waiting for a worker at a time; the rest waits behind them.",
)
@click.option("--submits-per-minute", type=click.IntRange(1), help="More are answered 429.")
@json_option
@database_option
def create_key(
    name: str,
    scopes: Sequence[str],
    admin: bool,
    max_concurrency: int | None,
    submits_per_minute: int | None,
    as_json: bool,
    database_url: str,
) -> None:
    """Print a new key, which is shown this once; its id goes to stderr."""
    if admin:
        scopes = sorted({*scopes, "admin"})
    with _database(database_url) as store, store.begin() as tx:
        key_id, plain = keys.create(
            tx,
            name,
            tuple(scopes),
            max_concurrency=max_concurrency,
            submits_per_minute=submits_per_minute,
        )
    if as_json:
        print_json({"id": str(key_id), "name": name, "scopes": list(scopes), "key": plain})
        return
    click.echo(f"id {key_id}", err=True)
    click.echo(plain)


@api_keys.command("list")
@json_option
@database_option
def list_keys(as_json: bool, database_url: str) -> None:
    """Print the keys that are not revoked: id, scopes, name."""
    with _database(database_url) as store, store.autocommit() as conn:
        found = keys.live(conn)
    for key in found:
        if as_json:
            limits = {
                "max_concurrency": key.max_concurrency,
                "submits_per_minute": key.submits_per_minute,
            }
            shown = {"id": str(key.id), "name": key.name, "scopes": list(key.scopes)}
            print_json(shown | limits)
        else:
            click.echo(f"{key.id}  {','.join(key.scopes):<10}  {key.name}")


@api_keys.command("revoke")
@click.argument("key_id", type=click.UUID)
@json_option
@database_option
def revoke_key(key_id: UUID, as_json: bool, database_url: str) -> None:
    """Switch a key off, within a second."""
    with _database(database_url) as store, store.begin() as tx:
        revoked = keys.revoke(tx, key_id)
    if not revoked:
        raise click.UsageError(f"there is no live key {key_id}")
    if as_json:
        print_json({"id": str(key_id), "revoked": True})
