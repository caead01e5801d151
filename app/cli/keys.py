"""`stillmotion keys`: works in the database, so that the first key needs no other."""

import functools
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import click

from app.cli.database import database_option, open_store
from app.cli.failures import ServerGroup
from app.config.settings import Settings
from app.store import keys
from app.store.keys import ApiKey
from stillmotion.cli.options import json_option, print_json

DEFAULT = "default"
# Limits of a key: the unit for people, and what the option says.
LIMITS = {
    "max_concurrency": (
        "concurrency",
        "Jobs placed or waiting for a worker at a time; further jobs queue behind them.",
    ),
    "submits_per_minute": ("submits per minute", "Further submits get a 429."),
    "upload_mb_per_day": ("MB of uploads per day", "Further uploads get a 429."),
    "webhooks_in_flight": ("webhooks in flight", "Further webhooks wait."),
}
SETTING_OF = {
    "max_concurrency": "KEY_CONCURRENCY",
    "submits_per_minute": "SUBMITS_PER_MINUTE",
    "upload_mb_per_day": "UPLOAD_MB_PER_DAY",
    "webhooks_in_flight": "WEBHOOKS_IN_FLIGHT",
}


@click.group("keys", cls=ServerGroup)
def api_keys() -> None:
    """Create, list and revoke API keys, in the server's database."""


class _Limit(click.ParamType[int | str]):
    """A whole number; 0 is unlimited. `default`: as the deployment's settings say."""

    name = "number"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value == DEFAULT:
            return value
        if not (value.isascii() and value.isdecimal() and len(value) <= 9):
            self.fail(f"{value!r} is not a whole number, or `{DEFAULT}`.", param, ctx)
        return int(value)


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Call the command with `limits`: those that were named."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        given = {name: options.pop(name) for name in (*LIMITS, "best_priority")}
        limits = {
            name: None if value == DEFAULT else value
            for name, value in given.items()
            if value is not None
        }
        command(limits=limits, **options)

    described = click.option(
        "--best-priority",
        type=click.IntRange(0, 2),
        help="The best priority that its jobs may ask for: 0 is taken first, 2 last."
        f"  [default: {keys.DEFAULT_BEST_PRIORITY}]",
    )(run)
    for name, (_, text) in reversed(LIMITS.items()):
        described = click.option(
            f"--{name.replace('_', '-')}",
            type=_Limit(),
            help=f"{text} 0: unlimited.  [default: {SETTING_OF[name]}, {_default_text(name)}]",
        )(described)
    return described


def _default_text(name: str) -> str:
    value = Settings.model_fields[SETTING_OF[name].lower()].default
    return f"{value or 'unlimited'} unless set"


def describe_limits(key: ApiKey) -> str:
    """The limits of a key in one line, for people."""
    shown = []
    for name, (unit, _) in LIMITS.items():
        own = getattr(key, name)
        if own is None:
            shown.append(f"{unit}: {SETTING_OF[name]} ({_default_text(name)})")
        else:
            shown.append(f"{unit}: {own or 'unlimited'}")
    return "; ".join([*shown, f"best priority: {key.best_priority}"])


@api_keys.command("create")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--scope", "scopes", type=click.Choice(keys.SCOPES), multiple=True, default=["jobs"])
@click.option("--admin", is_flag=True, help="An operator's key: adds the scope `admin`.")
@limit_options
@json_option
@database_option
def create_key(
    name: str,
    scopes: Sequence[str],
    admin: bool,
    limits: keys.Limits,
    as_json: bool,
    database_url: str,
) -> None:
    """Create a key and print it, this once only; its id and limits go to stderr."""
    if admin:
        scopes = sorted({*scopes, "admin"})
    with open_store(database_url) as store, store.begin() as tx:
        key_id, plain = keys.create(tx, name, tuple(scopes), **limits)
        key = keys.get(tx, key_id)
    assert key is not None
    if as_json:
        print_json(_shown(key) | {"key": plain})
        return
    click.echo(f"id {key_id}", err=True)
    click.echo(f"limits {describe_limits(key)}", err=True)
    click.echo(plain)


@api_keys.command("update")
@click.argument("key_id", type=click.UUID)
@limit_options
@json_option
@database_option
def update_key(key_id: UUID, limits: keys.Limits, as_json: bool, database_url: str) -> None:
    """Change limits of a key; takes effect within a second. `default`: as the settings say."""
    with open_store(database_url) as store, store.begin() as tx:
        key = keys.change(tx, key_id, **limits)
    if key is None:
        raise click.UsageError(f"there is no live key {key_id}")
    if as_json:
        print_json(_shown(key))
    else:
        click.echo(f"limits {describe_limits(key)}")


@api_keys.command("list")
@json_option
@database_option
def list_keys(as_json: bool, database_url: str) -> None:
    """Print the live keys: id, scopes, name; with --json also their limits."""
    with open_store(database_url) as store, store.autocommit() as conn:
        found = keys.live(conn)
    for key in found:
        if as_json:
            print_json(_shown(key))
        else:
            click.echo(f"{key.id}  {','.join(key.scopes):<10}  {key.name}")


def _shown(key: ApiKey) -> dict[str, Any]:
    """A limit of null: the deployment's default; of 0: unlimited."""
    return {"id": str(key.id), "name": key.name, "scopes": list(key.scopes), **key.limits}


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
