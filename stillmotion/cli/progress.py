"""A job's progress, on stderr: a bar on a terminal, else a line for every change."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stillmotion import CompletedEvent, Event, Job, ProgressEvent, QueueEvent, StatusEvent


@dataclass(frozen=True)
class Shown:
    """What is shown of a job. `ahead`: jobs that are taken first."""

    state: str
    step: int
    steps: int
    ahead: int | None = None

    @classmethod
    def of(cls, job: Job) -> "Shown":
        ahead = None if job.queue is None else job.queue.position
        return cls(str(job.state), job.progress.step, job.progress.steps, ahead)

    def after(self, event: Event) -> "Shown":
        match event:
            case CompletedEvent(job=job):
                return Shown.of(job)
            case StatusEvent(state=state):
                return Shown(str(state), 0, self.steps)
            case ProgressEvent(step=step, steps=steps):
                return replace(self, step=step, steps=steps)
            case QueueEvent(position=position):
                return replace(self, ahead=position)
        return self

    @property
    def note(self) -> str:
        if self.ahead is not None:
            return f"{self.ahead} ahead" if self.ahead else "next"
        return f"step {self.step} of {self.steps}" if self.step else ""


@contextmanager
def progress_of(job: Job) -> Iterator[Callable[[Shown], None]]:
    """Show how a job gets on, until the block is left."""
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
        task = bar.add_task(job.state, total=job.progress.steps, note="")

        def show(now: Shown) -> None:
            bar.update(task, description=now.state, completed=now.step, note=now.note)

        yield show


def _lines() -> Callable[[Shown], None]:
    last = ""

    def show(now: Shown) -> None:
        nonlocal last
        line = f"{now.state} {now.note}".rstrip()
        if line != last:
            click.echo(line, err=True)
        last = line

    return show
