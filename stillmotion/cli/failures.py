"""A command's failure: one sentence and an exit status."""

import click

from stillmotion.cli.exit_status import ExitStatus


class CommandFailed(click.ClickException):
    """Ends a command with this exit status."""

    def __init__(self, status: ExitStatus, sentence: str):
        super().__init__(sentence)
        self.status = status
