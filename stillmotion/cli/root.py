"""The tree of commands, and the exit status of each outcome."""

from collections.abc import Sequence

import click

from stillmotion import __version__
from stillmotion.cli.completion import completion
from stillmotion.cli.exit_status import HELP, ExitStatus
from stillmotion.cli.failures import CommandFailed
from stillmotion.cli.groups import RootGroup
from stillmotion.cli.jobs import animate, jobs
from stillmotion.cli.operations import audit, regions, workers
from stillmotion.cli.webhooks import webhooks
from stillmotion.errors import ConfigurationError, Rejected, StillmotionError


@click.group(cls=RootGroup, epilog=HELP, context_settings={"max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Turn a picture into a short clip."""


for command in (animate, jobs, webhooks, regions, workers, audit, completion):
    cli.add_command(command)
cli.add_server_command("keys", "Create, list and revoke API keys, in the server's database.")
cli.add_server_command("migrate", "Bring the database's schema to this release.")
cli.add_server_command("plan", "Plan the GPUs per region for a forecast.")
cli.add_server_command("reconcile", "After a restore: expire jobs whose clip is missing.")
cli.add_server_command("provenance", "Print the content credentials (C2PA) of a clip.")


def run(arguments: Sequence[str]) -> int:
    """Run a command. Every error becomes one sentence and an exit status here."""
    try:
        status = cli.main(list(arguments), prog_name="stillmotion", standalone_mode=False)
        return ExitStatus.OK if status is None else status
    except click.Abort:
        return ExitStatus.INTERRUPTED
    except CommandFailed as error:
        return _fail(error.status, error.format_message())
    except click.ClickException as error:
        return _fail(ExitStatus.USAGE, error.format_message())
    except Rejected as error:
        return _fail(ExitStatus.REJECTED, f"{error.detail} ({error.code})")
    except ConfigurationError as error:
        return _fail(ExitStatus.USAGE, error.detail)
    except StillmotionError as error:
        return _fail(ExitStatus.UNREACHABLE, error.detail)
    except OSError as error:
        return _fail(ExitStatus.USAGE, f"{error.filename or 'file'}: {error.strerror}.")


def _fail(status: int, sentence: str) -> int:
    click.echo(f"stillmotion: {sentence}", err=True)
    return status
