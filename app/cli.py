"""The `stillmotion` command."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import ArgumentError, ProgrammingError

from app.cli_options import server_options
from app.cli_plan import NO_PLAN, plan
from app.cli_provenance import NO_CREDENTIALS, provenance
from app.cli_traffic import audit, regions, workers
from app.cli_webhooks import webhooks
from app.client import Client, Job, Rejected, Unreachable, WaitTimeout
from app.config import ConfigError, Settings
from app.domain.errors import DatabaseUnavailable, StillmotionError
from app.domain.job import JobState, Policy
from app.store import keys
from app.store.session import Store

PLUGINS = "stillmotion.commands"
CANCEL_TRIES = 2  # on Ctrl-C: whoever pressed it wants the prompt back


class ExitStatus(IntEnum):
    OK = 0
    JOB_FAILED = 1
    USAGE = 2  # click's own
    UNREACHABLE = 3
    REJECTED = 4
    CANCELED = 5
    NO_PLAN = NO_PLAN
    NO_CREDENTIALS = NO_CREDENTIALS
    CONFIG = 78  # sysexits.h
    INTERRUPTED = 130  # 128 + SIGINT


EXIT_STATUS_HELP = """\b
Exit status:
    0  it worked
    1  the job failed or expired
    2  the command was used wrongly, or a file cannot be read or written
    3  the server or database cannot be reached, or --timeout has passed
    4  the server refused the request
    5  the job was canceled
    6  no plan meets the demand
    7  a clip has no content credentials, or was changed after they were signed
   78  the configuration is wrong
  130  interrupted by Ctrl-C
"""


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


@click.group(cls=Group, epilog=EXIT_STATUS_HELP, context_settings={"max_content_width": 100})
@click.version_option(package_name="stillmotion")
def cli() -> None:
    """Turn a picture into a short clip."""


for command in (plan, provenance, webhooks, regions, workers, audit):
    cli.add_command(command)


@cli.command(epilog=EXIT_STATUS_HELP)
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("prompt", default="")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The MP4.")
@click.option("--model", help="One of the server's models.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1))
@click.option("--frames", type=int)
@click.option("--fps", type=int)
@click.option("--size", type=int, help="Longest side, pixels.")
@click.option("--motion", type=click.FloatRange(0, 2), help="Strength of all motion; 1 is normal.")
@click.option("--loop", is_flag=True, default=None, help="There and back: the end meets the start.")
@click.option("--region", help="The home region.")
@click.option("--policy", type=click.Choice([str(policy) for policy in Policy]))
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait for the end.")
@click.option("--json", "as_json", is_flag=True, help="Print the job and the path as JSON.")
@server_options
def animate(
    image: Path,
    prompt: str,
    output: Path | None,
    timeout: float | None,
    as_json: bool,
    server: str,
    key: str,
    **options: Any,
) -> ExitStatus:
    """Animate IMAGE as PROMPT says; print the MP4's path and nothing else.

    Ctrl-C cancels the job.
    """
    target = output or Path(f"{image.stem}.mp4")
    if not target.parent.is_dir():
        raise click.BadParameter(f"there is no directory {target.parent}", param_hint="--output")
    if target.exists() and target.samefile(image):
        raise click.BadParameter("would overwrite the picture", param_hint="--output")
    with Client(server, key) as client:
        job = client.submit(image, prompt, **options)
        try:
            with progress_of(job) as show:
                job = client.wait(job.id, show, timeout)
        except KeyboardInterrupt:
            with suppress(StillmotionError):
                client.cancel(job.id, tries=CANCEL_TRIES)
            click.echo(f"Job {job.id} is canceled.", err=True)
            return ExitStatus.INTERRUPTED
        path = client.download(job, target) if job.state == JobState.SUCCEEDED else None
    if as_json:
        click.echo(json.dumps({"path": path and str(path), "job": job.raw}, ensure_ascii=False))
    elif path is not None:
        click.echo(path)
    if path is not None:
        return ExitStatus.OK
    click.echo(f"Job {job.id} {job.state}: {job.error}", err=True)
    canceled = job.state == JobState.CANCELED
    return ExitStatus.CANCELED if canceled else ExitStatus.JOB_FAILED


@contextmanager
def progress_of(job: Job) -> Iterator[Callable[[Job], None]]:
    """Show a job's progress on stderr: a bar on a terminal, else a line for every change."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(job.state, total=job.steps, note="")

        def show(now: Job) -> None:
            bar.update(task, description=now.state, completed=now.step, note=_note(now))

        yield show


def _lines() -> Callable[[Job], None]:
    last = ""

    def show(now: Job) -> None:
        nonlocal last
        line = f"{now.state} {_note(now)}".rstrip()
        if line != last:
            click.echo(line, err=True)
        last = line

    return show


def _note(job: Job) -> str:
    if job.position is not None:
        return f"{job.position} ahead" if job.position else "next"
    return f"step {job.step} of {job.steps}" if job.step else ""


@cli.group()
def jobs() -> None:
    """Look at jobs, and cancel them."""


@jobs.command("show")
@click.argument("job_id")
@server_options
def show_job(job_id: str, server: str, key: str) -> None:
    """Print one job as JSON."""
    with Client(server, key) as client:
        click.echo(json.dumps(client.get(job_id).raw, indent=2, ensure_ascii=False))


@jobs.command("list")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--state", type=click.Choice([str(state) for state in JobState]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@server_options
def list_jobs(limit: int, state: str | None, as_json: bool, server: str, key: str) -> None:
    """Print the newest jobs: id, state, time of submit, prompt."""
    with Client(server, key) as client:
        for job in client.list(limit, state):
            if as_json:
                click.echo(json.dumps(job.raw, ensure_ascii=False))
            else:
                prompt = " ".join(job.raw["prompt"].split())[:60]
                click.echo(f"{job.id}  {job.state:<10}  {job.raw['created_at']}  {prompt}".rstrip())


@jobs.command("cancel")
@click.argument("job_id")
@server_options
def cancel_job(job_id: str, server: str, key: str) -> None:
    """Cancel a job; prints its state."""
    with Client(server, key) as client:
        click.echo(client.cancel(job_id).state)


@cli.group("keys")
def api_keys() -> None:
    """Make and revoke API keys, in the database itself."""


database_option = click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    required=True,
    help="The service's Postgres.",
)


@contextmanager
def _database(url: str) -> Iterator[Store]:
    """The store, with one sentence for a database that is not ours. Raises ConfigError."""
    try:
        store = Store(Settings.model_construct(database_url=url).sqlalchemy_url, pool_size=1)
    except ArgumentError:
        raise ConfigError("DATABASE_URL is not a database's URL.") from None
    try:
        yield store
    except ProgrammingError:
        raise ConfigError("The database lacks our tables; run `alembic upgrade head`.") from None
    finally:
        store.close()


@api_keys.command("create")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--scope", "scopes", type=click.Choice(keys.SCOPES), multiple=True, default=["jobs"])
@click.option("--admin", is_flag=True, help="An operator's key: the scope `admin` besides.")
@click.option(
    "--max-concurrency",
    type=click.IntRange(1),
    help="Jobs that may be placed or waiting for a worker at a time; the rest waits behind them.",
)
@click.option("--submits-per-minute", type=click.IntRange(1), help="More are answered 429.")
@database_option
def create_key(
    name: str,
    scopes: Sequence[str],
    admin: bool,
    max_concurrency: int | None,
    submits_per_minute: int | None,
    database_url: str,
) -> None:
    """Print a new key, which is shown this once; its id goes to stderr."""
    if admin:
        scopes = sorted({*scopes, "admin"})
    with _database(database_url) as store, store.begin() as tx:
        key_id, plain = keys.create(
            tx,
            name,
            tuple(scopes),
            max_concurrency=max_concurrency,
            submits_per_minute=submits_per_minute,
        )
    click.echo(f"id {key_id}", err=True)
    click.echo(plain)


@api_keys.command("revoke")
@click.argument("key_id", type=click.UUID)
@database_option
def revoke_key(key_id: UUID, database_url: str) -> None:
    """Switch a key off, within a second."""
    with _database(database_url) as store, store.begin() as tx:
        revoked = keys.revoke(tx, key_id)
    if not revoked:
        raise click.UsageError(f"there is no live key {key_id}")


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
    except (Unreachable, WaitTimeout, DatabaseUnavailable) as error:
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


if __name__ == "__main__":
    main()
