"""The job: which events move it between states, and its id."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from stillmotion.states import JobState

MAX_BEGUN = 3  # attempts of one job that may begin


class Event(StrEnum):
    """Everything that can happen to a job after submit."""

    PLACE = "place"
    BEGIN = "begin"
    FINISH = "finish"
    FAIL_TRANSIENT = "fail_transient"
    FAIL_PERMANENT = "fail_permanent"
    LOSE = "lose"  # lease expired, or the placement was never begun
    CANCEL = "cancel"
    PASS_DEADLINE = "pass_deadline"


S, E = JobState, Event

# The whole machine. A missing pair is refused. A trigger in the migrations enforces the same moves,
# by state alone; a test compares the two.
MOVES: dict[tuple[JobState, Event], JobState] = {
    (S.QUEUED, E.PLACE): S.STARTING,
    (S.QUEUED, E.CANCEL): S.CANCELED,
    (S.QUEUED, E.PASS_DEADLINE): S.EXPIRED,
    (S.STARTING, E.BEGIN): S.PROCESSING,
    (S.STARTING, E.LOSE): S.QUEUED,
    (S.STARTING, E.CANCEL): S.CANCELED,
    (S.STARTING, E.PASS_DEADLINE): S.EXPIRED,
    (S.PROCESSING, E.FINISH): S.SUCCEEDED,
    (S.PROCESSING, E.FAIL_PERMANENT): S.FAILED,
    (S.PROCESSING, E.FAIL_TRANSIENT): S.QUEUED,
    (S.PROCESSING, E.LOSE): S.QUEUED,
    (S.PROCESSING, E.CANCEL): S.CANCELED,
    (S.PROCESSING, E.PASS_DEADLINE): S.CANCELED,
}


class IllegalMove(ValueError):
    """The event cannot happen in this state."""


def move(state: JobState, event: Event, *, begun: int = 0) -> JobState:
    """The state after `event`. `begun`: attempts that have begun, including this one.

    A job whose last allowed attempt fails or is lost becomes `failed` instead of `queued`.
    Raises IllegalMove.
    """
    try:
        after = MOVES[state, event]
    except KeyError:
        raise IllegalMove(f"{event} cannot happen to a job that is {state}") from None
    if state is S.PROCESSING and after is S.QUEUED and begun >= MAX_BEGUN:
        return S.FAILED
    return after


def uuid7(unix_ms: int, random_74: int) -> UUID:
    """RFC 9562 section 5.7. Ids that grow with time keep inserts at one end of the index.

    `random_74`: 74 random bits; 12 go next to the version, 62 next to the variant.
    """
    rand_a, rand_b = (random_74 >> 62) & 0xFFF, random_74 & (1 << 62) - 1
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b
    return UUID(int=value)


def first_id(moment: datetime) -> UUID:
    """The smallest id that a job of this moment can have."""
    return uuid7(max(0, int(moment.timestamp() * 1000)), 0)
