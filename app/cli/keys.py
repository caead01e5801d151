"""`stillmotion keys`: works in the database, so that the first key needs no other."""

from collections.abc import Sequence
from uuid import UUID

import click

from app.cli.database import open_store
from app.cli.failures import ServerGroup
from app.store import keys
from stillmotion.cli.options import json_option, print_json


@click.group("keys", cls=ServerGroup)
def api_keys() -> None:
    """Create, list and revoke API keys, in the server's database."""


database_option = click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    required=True,
    help="The server's Postgres.",
)


@api_keys.command("create")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--scope", "scopes", type=click.Choice(keys.SCOPES), multiple=True, default=["jobs"])
@click.option("--admin", is_flag=True, help="An operator's key: adds the scope `admin`.")
@click.option(
    "--max-concurrency",
    type=click.IntRange(1),
    help="Jobs placed or waiting for a worker at a time; further jobs queue behind them.",
)
@click.option("--submits-per-minute", type=click.IntRange(1), help="Further submits get a 429.")
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
    """Create a key and print it, this once only; its id goes to stderr."""
    if admin:
        scopes = sorted({*scopes, "admin"})
    with open_store(database_url) as store, store.begin() as tx:
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
    """Print the live keys: id, scopes, name."""
    with open_store(database_url) as store, store.autocommit() as conn:
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
    """Revoke a key; takes effect within a second."""
    with open_store(database_url) as store, store.begin() as tx:
        revoked = keys.revoke(tx, key_id)
    if not revoked:
        raise click.UsageError(f"there is no live key {key_id}")
    if as_json:
        print_json({"id": str(key_id), "revoked": True})
