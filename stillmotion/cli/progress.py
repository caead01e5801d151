"""A job's progress on stderr: a bar on a terminal, otherwise a line per change."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

import stillmotion

if TYPE_CHECKING:
    from stillmotion import Event, Job


@dataclass(frozen=True)
class Snapshot:
    """The part of a job that is shown. `ahead` counts the jobs in front of it."""

    state: str
    step: int
    steps: int
    ahead: int | None = None
    workers: int | None = None  # that serve its model

    @classmethod
    def of(cls, job: "Job") -> "Snapshot":
        ahead = None if job.queue is None else job.queue.position
        workers = None if job.queue is None else job.queue.workers
        return cls(str(job.state), job.progress.step, job.progress.steps, ahead, workers)

    def after(self, event: "Event") -> "Snapshot":
        match event:
            case stillmotion.CompletedEvent(job=job):
                return Snapshot.of(job)
            case stillmotion.StatusEvent(state=state):
                return Snapshot(str(state), 0, self.steps)
            case stillmotion.ProgressEvent(step=step, steps=steps):
                return replace(self, step=step, steps=steps)
            case stillmotion.QueueEvent(position=position, workers=workers):
                return replace(self, ahead=position, workers=workers)
        return self

    @property
    def note(self) -> str:
        if self.workers == 0:
            return "no worker serves its model now"
        if self.ahead is not None:
            return f"{self.ahead} ahead" if self.ahead else "next"
        return f"step {self.step} of {self.steps}" if self.step else ""


@contextmanager
def progress_of(job: "Job") -> Iterator[Callable[[Snapshot], None]]:
    """Yields a function that shows the job's latest snapshot."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

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

        def show(now: Snapshot) -> None:
            bar.update(task, description=now.state, completed=now.step, note=now.note)

        yield show


def _lines() -> Callable[[Snapshot], None]:
    last = ""

    def show(now: Snapshot) -> None:
        nonlocal last
        line = f"{now.state} {now.note}".rstrip()
        if line != last:
            click.echo(line, err=True)
        last = line

    return show
