"""The `stillmotion` command."""

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

import click

from app.cli.keys import api_keys
from app.cli.plan import plan
from app.cli.provenance import provenance
from app.config.settings import ConfigError
from app.domain.errors import DatabaseUnavailable
from stillmotion import Rejected, UnexpectedAnswer, Unreachable, WaitTimeout
from stillmotion.cli.completion import completion
from stillmotion.cli.exit_status import HELP, ExitStatus
from stillmotion.cli.jobs import animate, jobs
from stillmotion.cli.traffic import audit, regions, workers
from stillmotion.cli.webhooks import webhooks

PLUGINS = "stillmotion.commands"


class Group(click.Group):
    """Our commands, and those that installed packages add by the entry points of PLUGINS.

    A plugin is imported when it is called, or listed by --help.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=PLUGINS).names})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        own = super().get_command(ctx, name)
        if own is not None:
            return own
        found = entry_points(group=PLUGINS, name=name)
        return next(iter(found)).load() if found else None


@click.group(cls=Group, epilog=HELP, context_settings={"max_content_width": 100})
@click.version_option(package_name="stillmotion")
def cli() -> None:
    """Turn a picture into a short clip."""


for command in (
    *(animate, jobs, api_keys, webhooks, regions, workers, audit),
    *(plan, provenance, completion),
):
    cli.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run the command; the one place where errors become sentences and exit statuses."""
    try:
        status = cli.main(list(arguments), prog_name="stillmotion", standalone_mode=False)
        return ExitStatus.OK if status is None else status
    except click.Abort:
        return ExitStatus.INTERRUPTED
    except click.ClickException as error:
        return _fail(ExitStatus.USAGE, error.format_message())
    except Rejected as error:
        return _fail(ExitStatus.REJECTED, f"{error.detail} ({error.code})")
    except (Unreachable, UnexpectedAnswer, WaitTimeout, DatabaseUnavailable) as error:
        return _fail(ExitStatus.UNREACHABLE, error.detail)
    except ConfigError as error:
        return _fail(ExitStatus.CONFIG, str(error))
    except OSError as error:
        return _fail(ExitStatus.USAGE, f"{error.filename or 'file'}: {error.strerror}.")


def _fail(status: ExitStatus, sentence: str) -> ExitStatus:
    click.echo(f"stillmotion: {sentence}", err=True)
    return status


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
