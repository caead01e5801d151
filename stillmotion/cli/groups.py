"""Groups of commands, some of which belong to the server or to installed plugins."""

import sys
from importlib import import_module
from pathlib import Path

import click

from stillmotion import HOMEPAGE
from stillmotion.cli import interrupt
from stillmotion.cli.exit_status import ExitStatus
from stillmotion.cli.failures import CommandFailed

PLUGINS = "stillmotion.commands"  # the entry points by which packages add commands

# In a clone the server lies next to this package. Any other package `app` is not ours.
CLONE = Path(__file__).parents[2]
SERVER_COMMANDS = "app.cli.server_commands"


class ServerCommand(click.Command):
    """Stands in for a command of the server, which is loaded when it is called.

    So --help lists it without loading the server, and even where there is no server.
    """

    def load(self, called: str) -> click.Command:
        """The command itself; `called` is how the user calls it. Raises CommandFailed."""
        if not (CLONE / f"{SERVER_COMMANDS.replace('.', '/')}.py").is_file():
            raise CommandFailed(
                ExitStatus.NOT_INSTALLED,
                f"`{called}` needs the server, which runs from a clone of {HOMEPAGE}.",
            )
        # Goes ahead of a user's own `app` in the current folder or on PYTHONPATH.
        sys.path.insert(0, str(CLONE))
        try:
            command: click.Command = import_module(SERVER_COMMANDS).load(called)
        except ModuleNotFoundError as error:
            raise CommandFailed(
                ExitStatus.NOT_INSTALLED,
                f"`{called}` needs the package {error.name}: "
                f"run `pip install -e '.[server]'` in {CLONE}.",
            ) from None
        finally:
            sys.path.remove(str(CLONE))
        return command


class Group(click.Group):
    """Commands of this package, and stand-ins for those of the server."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, ServerCommand):
            command = command.load(f"{ctx.command_path} {name}")
            interrupt.raise_keyboard_interrupt()
        return name, command, rest

    def add_server_command(self, name: str, help_text: str) -> None:
        self.add_command(ServerCommand(name, help=help_text))


class RootGroup(Group):
    """Adds the commands of installed packages. A plugin is imported when it is called or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from importlib.metadata import entry_points  # 20 ms, and seldom needed

        return sorted({*super().list_commands(ctx), *entry_points(group=PLUGINS).names})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        own = super().get_command(ctx, name)
        if own is not None:
            return own
        from importlib.metadata import entry_points

        for plugin in entry_points(group=PLUGINS, name=name):
            command: click.Command = plugin.load()
            interrupt.raise_keyboard_interrupt()
            return command
        return None
