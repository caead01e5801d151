"""`stillmotion animate` and `stillmotion jobs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import stillmotion
from stillmotion.cli.exit_status import HELP, ExitStatus
from stillmotion.cli.options import MAX_LIST, json_option, print_json, with_client
from stillmotion.cli.progress import Snapshot, progress_of
from stillmotion.cli.understood import line_of
from stillmotion.errors import Rejected, StillmotionError
from stillmotion.states import JobState, Policy

if TYPE_CHECKING:
    from stillmotion import Client, Job

# After Ctrl-C the user wants the prompt back.
CANCEL_TRIES, CANCEL_WAIT_S = 2, 5.0


@click.command(epilog=HELP)
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("prompt", default="")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the MP4; default: named after IMAGE, in the current directory.",
)
@click.option("--model", help="One of the server's models.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Repeats an earlier result.")
@click.option("--frames", type=int, help="Length of the clip, in frames.")
@click.option("--fps", type=int, help="Frames per second.")
@click.option("--size", type=int, help="Longest side, in pixels.")
@click.option("--motion", type=click.FloatRange(0, 2), help="Strength of all motion; 1 is normal.")
@click.option(
    "--loop", is_flag=True, default=None, help="There and back, so that the end meets the start."
)
@click.option("--negative-prompt", help="What not to show; few models take one.")
@click.option("--background", metavar="#RRGGBB", help="What transparent parts are laid on.")
@click.option("--region", help="The home region.")
@click.option(
    "--policy",
    type=click.Choice([str(policy) for policy in Policy]),
    help="How far from its home region the job may run.",
)
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait for the clip.")
@json_option
@with_client
def animate(
    client: "Client",
    image: Path,
    prompt: str,
    output: Path | None,
    timeout: float | None,
    as_json: bool,
    **options: Any,
) -> ExitStatus:
    """Animate IMAGE as PROMPT says; print the MP4's path and nothing else.

    What the model understood of PROMPT goes to stderr.

    Ctrl-C cancels the job, and says so if that did not work.
    """
    target = output or Path(f"{image.stem}.mp4")
    if not target.parent.is_dir():
        raise click.BadParameter(f"there is no directory {target.parent}", param_hint="--output")
    if target.exists() and target.samefile(image):
        raise click.BadParameter("would overwrite the picture", param_hint="--output")
    try:
        job = client.submit(image, prompt, **options)
    except KeyboardInterrupt:
        click.echo(
            "Interrupted before the server answered: the job may have been accepted."
            " `stillmotion jobs list` shows it.",
            err=True,
        )
        return ExitStatus.INTERRUPTED
    if prompt and job.prompt_understood is not None:
        click.echo(f"understood: {line_of(job.prompt_understood)}", err=True)
        if job.prompt_understood.hint:
            click.echo(job.prompt_understood.hint, err=True)
    try:
        with progress_of(job) as show:
            job = client.wait(job, lambda now: show(Snapshot.of(now)), timeout)
    except KeyboardInterrupt:
        click.echo(_cancel(client, job), err=True)
        return ExitStatus.INTERRUPTED
    path = client.download(job, target) if job.state == JobState.SUCCEEDED else None
    if as_json:
        print_json({"path": path and str(path), "job": job.raw})
    elif path is not None:
        click.echo(path)
    return _final_status(job)


def _cancel(client: "Client", job: "Job") -> str:
    """Cancel the job of an interrupted command. Returns what is known of it, as a sentence."""
    unknown = (
        f"The server did not confirm the cancellation, so job {job.id} may still be running."
        f" `stillmotion jobs cancel {job.id}` cancels it."
    )
    try:
        now = client.cancel(job, tries=CANCEL_TRIES, timeout_s=CANCEL_WAIT_S)
    except KeyboardInterrupt:
        return unknown
    except Rejected as error:
        return f"Job {job.id} was not canceled: {error.detail}"
    except StillmotionError:
        return unknown
    if now.terminal:
        return f"Job {job.id} is {now.state}."
    return f"Job {job.id} was told to stop; its worker does so at its next step."


@click.group()
def jobs() -> None:
    """List, show, watch, cancel and delete jobs."""


@jobs.command("list")
@click.option("--limit", type=click.IntRange(1, MAX_LIST), default=20, show_default=True)
@click.option("--state", type=click.Choice([str(state) for state in JobState]))
@json_option
@with_client
def list_jobs(client: "Client", limit: int, state: str | None, as_json: bool) -> None:
    """Print the newest jobs: id, state, time of submit, prompt."""
    for job in client.list(limit=limit, state=state):
        if as_json:
            print_json(job.raw)
        else:
            created = job.raw["created_at"]
            click.echo(f"{job.id}  {job.state:<10}  {created}  {_short(job.prompt)}".rstrip())


@jobs.command("show")
@click.argument("job_id")
@json_option
@with_client
def show_job(client: "Client", job_id: str, as_json: bool) -> None:
    """Print one job."""
    job = client.get(job_id)
    if as_json:
        print_json(job.raw)
        return
    for label, value in _lines(job):
        click.echo(f"{label:<9} {value}")


def _lines(job: "Job") -> list[tuple[str, object]]:
    """A job as labelled lines."""
    now = Snapshot.of(job)
    lines: list[tuple[str, object]] = [
        ("id", job.id),
        ("state", f"{job.state} {now.note}".rstrip()),
        ("prompt", _short(job.prompt)),
        *_understood(job),
        ("model", f"{job.model}, {job.frames} frames, {job.fps}/s, {job.size} px, seed {job.seed}"),
        ("region", f"home {job.region.home}, {job.region.policy}"),
        ("created", job.raw["created_at"]),
    ]
    if job.eta_seconds is not None:
        lines.append(("done in", f"{job.eta_seconds:.1f} s"))
    for attempt in job.attempts or ():
        outcome = attempt.error_code or attempt.outcome or "running"
        lines.append(("attempt", f"{attempt.number} in {attempt.region}: {outcome}"))
    if job.terminal:
        lines.append(("finished", f"{job.raw['finished_at']}, after {job.metrics.total:.1f} s"))
    if job.error is not None:
        lines.append(("error", f"{job.error.message} ({job.error.code})"))
    if job.output is not None:
        lines.append(("video", job.output.url))
    return lines


def _understood(job: "Job") -> list[tuple[str, object]]:
    found = job.prompt_understood
    if found is None:
        return []
    return [("motion", line_of(found)), *([("note", found.hint)] if found.hint else [])]


@jobs.command("watch", epilog=HELP)
@click.argument("job_id")
@json_option
@with_client
def watch_job(client: "Client", job_id: str, as_json: bool) -> ExitStatus:
    """Follow a job until it ends; print its state.

    Ctrl-C stops watching; the job continues. With --json every event is a line.
    """
    job = client.get(job_id)
    if as_json:
        for event in client.events(job):
            print_json({"event": event.name, "id": event.id, "data": event.data})
            job = event.job if isinstance(event, stillmotion.CompletedEvent) else job
        return _final_status(job)
    shown = Snapshot.of(job)
    with progress_of(job) as show:
        for event in client.events(job):
            shown = shown.after(event)
            show(shown)
            job = event.job if isinstance(event, stillmotion.CompletedEvent) else job
    click.echo(job.state)
    return _final_status(job)


@jobs.command("cancel")
@click.argument("job_id")
@json_option
@with_client
def cancel_job(client: "Client", job_id: str, as_json: bool) -> None:
    """Cancel a job; print its state."""
    job = client.cancel(job_id)
    if as_json:
        print_json(job.raw)
    else:
        click.echo(job.state)


@jobs.command("delete")
@click.argument("job_id")
@json_option
@with_client
def delete_job(client: "Client", job_id: str, as_json: bool) -> None:
    """Remove a job's picture, clip and texts; cancel it if it has not ended."""
    client.delete(job_id)
    if as_json:
        print_json({"id": job_id, "deleted": True})


def _short(prompt: str) -> str:
    return " ".join(prompt.split())[:60]


def _final_status(job: "Job") -> ExitStatus:
    """The status for a job that has ended; says why if it did not succeed."""
    if job.state == JobState.SUCCEEDED:
        return ExitStatus.OK
    why = job.state if job.error is None else f"{job.state}: {job.error.message}"
    click.echo(f"Job {job.id} {why}", err=True)
    canceled = job.state == JobState.CANCELED
    return ExitStatus.CANCELED if canceled else ExitStatus.JOB_FAILED
