"""`stillmotion animate` and `stillmotion jobs`."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from stillmotion import Client, CompletedEvent, Job
from stillmotion.cli.exit_status import HELP, ExitStatus
from stillmotion.cli.options import MAX_LIST, json_option, print_json, server_options
from stillmotion.cli.progress import Shown, progress_of
from stillmotion.errors import StillmotionError
from stillmotion.states import JobState, Policy

CANCEL_TRIES = 2  # on Ctrl-C: whoever pressed it wants the prompt back


@click.command(epilog=HELP)
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
@json_option
@server_options
def animate(
    image: Path,
    prompt: str,
    output: Path | None,
    timeout: float | None,
    as_json: bool,
    server: str,
    key: str,
    **order: Any,
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
        job = client.submit(image, prompt, **order)
        try:
            with progress_of(job) as show:
                job = client.wait(job.id, lambda now: show(Shown.of(now)), timeout)
        except KeyboardInterrupt:
            with suppress(StillmotionError):
                client.cancel(job.id, tries=CANCEL_TRIES)
            click.echo(f"Job {job.id} is canceled.", err=True)
            return ExitStatus.INTERRUPTED
        path = client.download(job.id, target) if job.state == JobState.SUCCEEDED else None
    if as_json:
        print_json({"path": path and str(path), "job": job.raw})
    elif path is not None:
        click.echo(path)
    return _ended(job)


@click.group()
def jobs() -> None:
    """Look at jobs, follow, cancel and delete them."""


@jobs.command("list")
@click.option("--limit", type=click.IntRange(1, MAX_LIST), default=20, show_default=True)
@click.option("--state", type=click.Choice([str(state) for state in JobState]))
@json_option
@server_options
def list_jobs(limit: int, state: str | None, as_json: bool, server: str, key: str) -> None:
    """Print the newest jobs: id, state, time of submit, prompt."""
    with Client(server, key) as client:
        for job in client.list(limit=limit, state=state):
            if as_json:
                print_json(job.raw)
            else:
                created = job.raw["created_at"]
                click.echo(f"{job.id}  {job.state:<10}  {created}  {_short(job.prompt)}".rstrip())


@jobs.command("show")
@click.argument("job_id")
@json_option
@server_options
def show_job(job_id: str, as_json: bool, server: str, key: str) -> None:
    """Print one job."""
    with Client(server, key) as client:
        job = client.get(job_id)
    if as_json:
        print_json(job.raw)
        return
    for name, value in _facts(job):
        click.echo(f"{name:<9} {value}")


def _facts(job: Job) -> list[tuple[str, object]]:
    """What there is to say of a job, line by line."""
    now = Shown.of(job)
    facts: list[tuple[str, object]] = [
        ("id", job.id),
        ("state", f"{job.state} {now.note}".rstrip()),
        ("prompt", _short(job.prompt)),
        ("model", f"{job.model}, {job.frames} frames, {job.fps}/s, {job.size} px, seed {job.seed}"),
        ("region", f"home {job.region.home}, {job.region.policy}"),
        ("created", job.raw["created_at"]),
    ]
    if job.eta_seconds is not None:
        facts.append(("done in", f"{job.eta_seconds:.1f} s"))
    for attempt in job.attempts or ():
        outcome = attempt.error_code or attempt.outcome or "under way"
        facts.append(("attempt", f"{attempt.number} in {attempt.region}: {outcome}"))
    if job.terminal:
        facts.append(("finished", f"{job.raw['finished_at']}, after {job.metrics.total:.1f} s"))
    if job.error is not None:
        facts.append(("error", f"{job.error.message} ({job.error.code})"))
    if job.output is not None:
        facts.append(("video", job.output.url))
    return facts


@jobs.command("watch", epilog=HELP)
@click.argument("job_id")
@json_option
@server_options
def watch_job(job_id: str, as_json: bool, server: str, key: str) -> ExitStatus:
    """Follow a job until it has ended; print its state.

    Ctrl-C stops following; the job goes on. With --json every event is a line.
    """
    with Client(server, key) as client:
        job = client.get(job_id)
        if as_json:
            for event in client.events(job_id):
                print_json({"event": event.name, "id": event.id, "data": event.data})
                job = event.job if isinstance(event, CompletedEvent) else job
        else:
            shown = Shown.of(job)
            with progress_of(job) as show:
                for event in client.events(job_id):
                    shown = shown.after(event)
                    show(shown)
                    job = event.job if isinstance(event, CompletedEvent) else job
            click.echo(job.state)
    return _ended(job)


@jobs.command("cancel")
@click.argument("job_id")
@json_option
@server_options
def cancel_job(job_id: str, as_json: bool, server: str, key: str) -> None:
    """Cancel a job; prints its state."""
    with Client(server, key) as client:
        job = client.cancel(job_id)
    if as_json:
        print_json(job.raw)
    else:
        click.echo(job.state)


@jobs.command("delete")
@click.argument("job_id")
@json_option
@server_options
def delete_job(job_id: str, as_json: bool, server: str, key: str) -> None:
    """Remove a job's picture, clip and texts; cancels it if it has not ended."""
    with Client(server, key) as client:
        client.delete(job_id)
    if as_json:
        print_json({"id": job_id, "deleted": True})


def _short(prompt: str) -> str:
    return " ".join(prompt.split())[:60]


def _ended(job: Job) -> ExitStatus:
    """The status for a job that has ended, with a sentence if that is no success."""
    if job.state == JobState.SUCCEEDED:
        return ExitStatus.OK
    why = job.state if job.error is None else f"{job.state}: {job.error.message}"
    click.echo(f"Job {job.id} {why}", err=True)
    canceled = job.state == JobState.CANCELED
    return ExitStatus.CANCELED if canceled else ExitStatus.JOB_FAILED
