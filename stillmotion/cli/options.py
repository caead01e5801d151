"""Options that several commands share, and how JSON is printed."""

import json
from collections.abc import Callable
from typing import Any

import click
import httpx


def _url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        good = httpx.URL(value).scheme in ("http", "https") and httpx.URL(value).host
    except httpx.InvalidURL:
        good = False
    if not good:
        raise click.BadParameter("must be like http://host:port")
    return value


def _key(ctx: click.Context, param: click.Parameter, value: str) -> str:
    value = value.strip()  # files and variables often end with a newline
    if not value.isascii() or not value.isprintable():
        raise click.BadParameter("is not an API key")
    return value


MAX_LIST = 100_000  # items that a command lists at most

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """One document on one line of stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--server and --key, the same for every command that talks to the API."""
    for option in (
        click.option(
            "--key",
            envvar="STILLMOTION_API_KEY",
            show_envvar=True,
            required=True,
            callback=_key,
            help="An API key.",
        ),
        click.option(
            "--server",
            envvar="STILLMOTION_SERVER",
            show_envvar=True,
            default="http://127.0.0.1:8000",
            show_default=True,
            callback=_url,
            help="The API's address.",
        ),
    ):
        command = option(command)
    return command
