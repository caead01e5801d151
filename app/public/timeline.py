"""What happened to a job, derived from its record and its attempts; no separate log is needed.

Every change of state has a position (fence, phase, step), which also serves as the id of the job's
events. Each placement has its own fence and passes through the phases in order, so positions only
grow over a job's life, and every API process computes the same ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic import ConfigDict

from app.public.response_model import ResponseModel, utc
from app.public.worker_name import shown_worker
from app.store.job.records import AttemptJson, WholeJob
from stillmotion.states import JobState


class TimelineEntry(ResponseModel):
    """One change of a job's state."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    at: datetime
    event: JobState
    seconds: float | None
    """How long the state lasted; null for the present state and the final one."""
    attempt: int | None = None
    region: str | None = None
    reason: str | None = None
    hops: list[dict[str, str | int | float | None]] | None = None
    """For a placement: the regions that refused the job before."""
    worker: str | None = None
    """The host is shown to admin keys only."""
    stages: dict[str, float] | None = None
    """For a render: seconds by stage."""


class Timeline(ResponseModel):
    """What happened to a job, in order."""

    object: Literal["timeline"]
    job_id: UUID
    data: list[TimelineEntry]

    def to_json(self) -> str:
        """Each kind of entry has its own fields; the others are omitted."""
        return self.model_dump_json(exclude_unset=True)


class Phase(IntEnum):
    QUEUED = 0  # for the first time
    STARTING = 1
    PROCESSING = 2
    REQUEUED = 3
    ENDED = 4


class Position(NamedTuple):
    fence: int
    phase: Phase
    step: int = 0

    def __str__(self) -> str:
        return f"{self.fence}.{int(self.phase)}.{self.step}"


@dataclass(frozen=True)
class Change:
    """One change of a job's state."""

    position: Position
    state: JobState
    at: datetime
    attempt: AttemptJson | None = None  # the placement it belongs to
    reason: str | None = None


def changes(job: WholeJob) -> Iterator[Change]:
    """Every change of state so far, oldest first."""
    yield Change(Position(0, Phase.QUEUED), JobState.QUEUED, utc(job.created_at))
    state = JobState(job.state)
    for attempt in job.attempts:
        fence = attempt["fence"]
        yield Change(
            Position(fence, Phase.STARTING), JobState.STARTING, _at(attempt["placed_at"]), attempt
        )
        if attempt["begun_at"] is not None:
            began = Position(fence, Phase.PROCESSING)
            yield Change(began, JobState.PROCESSING, _at(attempt["begun_at"]), attempt)
        ended = None if attempt["ended_at"] is None else _at(attempt["ended_at"])
        # The attempt that ended the job carries the job's own time: one statement writes both.
        if ended is not None and ended != job.finished_at:
            back = Position(fence, Phase.REQUEUED)
            reason = attempt["error_code"] or attempt["outcome"]
            yield Change(back, JobState.QUEUED, ended, attempt, reason)
    if state.terminal:
        end = Position(job.fence, Phase.ENDED)
        last = job.attempts[-1] if job.attempts else None
        assert job.finished_at is not None
        yield Change(end, state, utc(job.finished_at), last, job.error_code)


def furthest(job: WholeJob) -> Position:
    """The last position that the job can have reached. Steps are known before its row has them."""
    *_, last = changes(job)
    if last.state is JobState.PROCESSING:
        return last.position._replace(step=job.steps)
    return last.position


def timeline_of(job: WholeJob, *, operator: bool = False) -> Timeline:
    """A job's states, every hop on the way, and the stages of each attempt.

    `operator`: show the workers' hosts.
    """
    listed = list(changes(job))
    entries = [
        _entry(change, following, operator)
        for change, following in zip(listed, [*listed[1:], None], strict=True)
    ]
    return Timeline(object="timeline", job_id=job.id, data=entries)


def _entry(change: Change, following: Change | None, operator: bool) -> TimelineEntry:
    attempt = change.attempt
    fields: dict[str, Any] = {}
    if attempt is not None:
        fields |= {"attempt": attempt["fence"], "region": attempt["region"]}
    if change.reason is not None:
        fields["reason"] = change.reason
    if change.state is JobState.STARTING and attempt is not None:
        # An attempt's later hops say how it ended, which the following entries show.
        fields["hops"] = [hop for hop in attempt["hops"] if hop["outcome"] in ("refused", "placed")]
    if change.state is JobState.PROCESSING and attempt is not None:
        worker = shown_worker(attempt["worker"], operator=operator)
        fields |= {"worker": worker, "stages": attempt["timings"]}
    lasted = None
    if following is not None and not change.state.terminal:
        lasted = round((following.at - change.at).total_seconds(), 6)
    return TimelineEntry(at=change.at, event=change.state, seconds=lasted, **fields)


def _at(value: str) -> datetime:
    return utc(datetime.fromisoformat(value))
