"""The server's commands. `stillmotion` adds them to the user's where it finds this file."""

from importlib import import_module

import click

COMMANDS = {
    "stillmotion keys": "app.cli.keys:api_keys",
    "stillmotion migrate": "app.cli.migrate:migrate",
    "stillmotion plan": "app.cli.plan:plan",
    "stillmotion provenance": "app.cli.provenance:provenance",
    "stillmotion reconcile": "app.cli.reconcile:reconcile",
    "stillmotion regions check": "app.cli.regions:check",
}


def load(called: str) -> click.Command:
    """Import one command alone: each needs libraries that the others do not."""
    module, _, name = COMMANDS[called].partition(":")
    command: click.Command = getattr(import_module(module), name)
    return command
