"""Options that several commands share, and how JSON is printed."""

import functools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

import stillmotion
from stillmotion import settings
from stillmotion.cli import interrupt
from stillmotion.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

MAX_LIST = 100_000  # the most items that a command lists
WIDE = 240  # columns of a table that no terminal shows


def _checked(check: Callable[[str], str]) -> Callable[[click.Context, click.Parameter, str], str]:
    def callback(ctx: click.Context, param: click.Parameter, value: str) -> str:
        try:
            return check(value)
        except ConfigurationError as error:
            raise click.BadParameter(error.detail) from None

    return callback


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """One document on one line of stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


def console() -> "Console":
    """For tables on stdout. Into a file or a pipe, rows are not wrapped: programs read them."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE)


def with_client(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --server and --key, and call the command with a client as its first argument."""

    @functools.wraps(command)
    def run(*args: Any, server: str, key: str, **options: Any) -> Any:
        with stillmotion.Client(server, key) as client:  # the first use loads httpx and pydantic
            interrupt.raise_keyboard_interrupt()
            return command(client, *args, **options)

    for option in (
        click.option(
            "--key",
            envvar=settings.KEY_VARIABLE,
            show_envvar=True,
            required=True,
            callback=_checked(settings.checked_key),
            help="An API key.",
        ),
        click.option(
            "--server",
            envvar=settings.SERVER_VARIABLE,
            show_envvar=True,
            default="http://127.0.0.1:8000",
            show_default=True,
            callback=_checked(settings.checked_url),
            help="The server's URL.",
        ),
    ):
        run = option(run)
    return run
