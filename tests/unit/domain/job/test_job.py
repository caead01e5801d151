"""The state machine of a job."""

import re
from pathlib import Path
from uuid import RFC_4122

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.domain.job.state import MAX_BEGUN, MOVES, Event, IllegalMove, move, uuid7
from stillmotion.states import JobState

FIRST_MIGRATION = Path(__file__).parents[4] / "migrations/versions/0001_first_schema.py"


class JobLife(RuleBasedStateMachine):
    """Random events in random order; the refused ones change nothing."""

    def __init__(self):
        super().__init__()
        self.state = JobState.QUEUED
        self.begun = 0
        self.ended_as = None

    @rule(event=st.sampled_from(Event))
    def happen(self, event):
        begun = self.begun + (event is Event.BEGIN)
        try:
            after = move(self.state, event, begun=begun)
        except IllegalMove:
            return
        assert self.ended_as is None, f"left {self.ended_as} by {event}"
        self.state, self.begun = after, begun
        if after.terminal:
            self.ended_as = after

    @invariant()
    def at_most_three_attempts_begin(self):
        assert self.begun <= MAX_BEGUN

    @invariant()
    def a_job_with_no_attempt_left_does_not_wait(self):
        if self.begun == MAX_BEGUN:
            assert self.state is not JobState.QUEUED

    @precondition(lambda self: self.ended_as is JobState.SUCCEEDED)
    @invariant()
    def success_needs_a_begun_attempt(self):
        assert self.begun > 0


TestJobLife = JobLife.TestCase


@pytest.mark.parametrize("state", [s for s in JobState if s.terminal])
@pytest.mark.parametrize("event", Event)
def test_nothing_leaves_a_terminal_state(state, event):
    with pytest.raises(IllegalMove):
        move(state, event)


def test_the_database_guard_allows_exactly_the_moves_of_the_domain():
    guard = FIRST_MIGRATION.read_text().split("NOT IN (")[1].split(") THEN")[0]
    in_database = set(re.findall(r"\('(\w+)', '(\w+)'\)", guard))
    in_domain = {(before.value, after.value) for (before, _), after in MOVES.items()}
    # The last allowed attempt that is lost or fails ends the job.
    in_domain.add(("processing", "failed"))
    assert in_database == in_domain


@given(
    st.integers(0, 2**48 - 1),
    st.integers(0, 2**48 - 1),
    st.integers(0, 2**74 - 1),
    st.integers(0, 2**74 - 1),
)
def test_ids_sort_by_time(earlier, later, a, b):
    if earlier > later:
        earlier, later = later, earlier
    first, second = uuid7(earlier, a), uuid7(later, b)
    assert first.version == 7 and first.variant == RFC_4122
    assert first <= second or earlier == later
