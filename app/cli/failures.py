"""The server's errors as sentences and exit statuses of the command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from app.config.settings import ConfigError
from app.domain.errors import DatabaseUnavailable
from stillmotion.cli.exit_status import ExitStatus
from stillmotion.cli.failures import CommandFailed


@contextmanager
def as_command_failures() -> Iterator[None]:
    """Raises CommandFailed."""
    try:
        yield
    except ConfigError as error:
        raise CommandFailed(ExitStatus.CONFIG, str(error)) from None
    except DatabaseUnavailable as error:
        raise CommandFailed(ExitStatus.UNREACHABLE, error.detail) from None


class ServerCommand(click.Command):
    """A command whose errors are those of the server."""

    def invoke(self, ctx: click.Context) -> Any:
        with as_command_failures():
            return super().invoke(ctx)


class ServerGroup(click.Group):
    """A group whose commands' errors are those of the server."""

    def invoke(self, ctx: click.Context) -> Any:
        with as_command_failures():
            return super().invoke(ctx)
