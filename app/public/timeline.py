"""What happened to a job, made of its row and its attempts: they are kept, so this needs no log.

Positions tell the order, and are the ids of a job's events: (fence, phase, step). A placement has a
fence of its own and goes through the phases in order, so positions only grow over a job's life, on
every API process alike.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, NamedTuple

from sqlalchemy import Row

from stillmotion.states import JobState


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
    attempt: Mapping[str, Any] | None = None  # the placement that it belongs to
    reason: str | None = None


def changes(row: Row[Any]) -> Iterator[Change]:
    """Every change of state up to now, oldest first. `row` is that of `jobs.get_whole`."""
    yield Change(Position(0, Phase.QUEUED), JobState.QUEUED, _utc(row.created_at))
    state = JobState(row.state)
    for attempt in row.attempts:
        fence = attempt["fence"]
        yield Change(
            Position(fence, Phase.STARTING), JobState.STARTING, _at(attempt["placed_at"]), attempt
        )
        if attempt["begun_at"] is not None:
            began = Position(fence, Phase.PROCESSING)
            yield Change(began, JobState.PROCESSING, _at(attempt["begun_at"]), attempt)
        ended = None if attempt["ended_at"] is None else _at(attempt["ended_at"])
        # What ended the job itself has the job's own time: both are of one statement.
        if ended is not None and ended != row.finished_at:
            back = Position(fence, Phase.REQUEUED)
            why = attempt["error_code"] or attempt["outcome"]
            yield Change(back, JobState.QUEUED, ended, attempt, why)
    if state.terminal:
        end = Position(row.fence, Phase.ENDED)
        last = row.attempts[-1] if row.attempts else None
        yield Change(end, state, _utc(row.finished_at), last, row.error_code)


def of(row: Row[Any]) -> list[dict[str, Any]]:
    """The timeline as JSON values: states, every hop on the way, the stages of each attempt.

    `seconds`: how long the state lasted; none yet for the present one.
    """
    listed = list(changes(row))
    entries = []
    for change, after in zip(listed, [*listed[1:], None], strict=True):
        entry: dict[str, Any] = {
            "at": _text(change.at),
            "event": change.state.value,
            "seconds": None
            if after is None or change.state.terminal
            else round((after.at - change.at).total_seconds(), 6),
        }
        attempt = change.attempt
        if attempt is not None:
            entry |= {"attempt": attempt["fence"], "region": attempt["region"]}
        if change.reason is not None:
            entry["reason"] = change.reason
        if change.state is JobState.STARTING and attempt is not None:
            # The last hops of an attempt tell how it ended, which the next entries say.
            hops = [hop for hop in attempt["hops"] if hop["outcome"] in ("refused", "placed")]
            entry["hops"] = hops
        if change.state is JobState.PROCESSING and attempt is not None:
            entry["worker"] = attempt["worker"]
            entry["stages"] = attempt["timings"]
        entries.append(entry)
    return entries


def _at(value: str) -> datetime:
    return _utc(datetime.fromisoformat(value))


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
