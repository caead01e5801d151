"""`stillmotion migrate`: brings the database's schema to this release."""

import logging
import sys
from pathlib import Path

import click
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ArgumentError, OperationalError

from app.cli.database import migrator_option
from app.cli.failures import ServerCommand
from app.config.settings import ConfigError, Settings
from stillmotion.cli.exit_status import ExitStatus
from stillmotion.cli.failures import CommandFailed
from stillmotion.cli.options import json_option, print_json

ROOT = Path(__file__).parents[2]


@click.command(
    "migrate",
    cls=ServerCommand,
    epilog="Exit status: 0 the schema is this release's or newer, 3 unreachable or busy, 8 --check "
    "found an older schema, 78 wrong configuration.",
)
@migrator_option
@click.option("--check", is_flag=True, help="Only compare; change nothing.")
@json_option
def migrate(database_url: str, check: bool, as_json: bool) -> ExitStatus:
    """Bring the database's schema to this release.

    Run it once per release, before anything else: the previous release goes on working. It may be
    run again after a failure, and two at a time wait for each other. A newer schema stays.
    """
    config = configuration(database_url)
    head = ScriptDirectory.from_config(config).get_current_head()
    try:
        before = schema_version(database_url)
        newer = before is not None and head is not None and before > head
        if not check and not newer:
            _log_steps()
            command.upgrade(config, "head")
    except ArgumentError:
        raise ConfigError("DATABASE_URL is not a database URL.") from None
    except (OperationalError, TimeoutError) as error:
        reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        raise CommandFailed(ExitStatus.UNREACHABLE, f"Not migrated: {reason}") from None
    if as_json:
        after = before if check or newer else head
        print_json({"before": before, "after": after, "needed": head})
    else:
        known = f"The schema is {before or 'empty'}"
        if before == head:
            click.echo(f"{known}, as this release needs it.")
        elif newer:
            click.echo(f"{known}, newer than this release's {head}, which runs on it.")
        else:
            click.echo(f"{known}; this release needs {head}." if check else f"{known} -> {head}.")
    return ExitStatus.DISAGREE if check and before != head and not newer else ExitStatus.OK


def configuration(database_url: str) -> Config:
    """What alembic needs to migrate this database."""
    config = Config()
    for name, path in (("script_location", ROOT / "migrations"), ("prepend_sys_path", ROOT)):
        config.set_main_option(name, str(path).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = _sqlalchemy_url(database_url)
    return config


def schema_version(database_url: str) -> str | None:
    """The revision of a database; None if it is empty. Raises ConfigError, SQLAlchemyError."""
    engine = create_engine(
        _sqlalchemy_url(database_url),
        # The encoding: else the texts of an SQL_ASCII database are bytes.
        connect_args={"connect_timeout": 5, "client_encoding": "utf8"},
    )
    with engine.connect() as connection:
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            raise ConfigError(f"The database's encoding is {encoding}, and must be UTF8.")
        return MigrationContext.configure(connection).get_current_revision()


def _sqlalchemy_url(database_url: str) -> str:
    return Settings.model_construct(database_url=database_url).sqlalchemy_url


def _log_steps() -> None:
    """Print each step as it begins: an index may take a while."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: record.getMessage().startswith("Running "))
    logger = logging.getLogger("alembic.runtime.migration")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
