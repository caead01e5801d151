"""When a job starts: the closed form against a simulated queue."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.profiles_file import PROFILES
from app.domain.job.cost import cost_units
from app.domain.job.eta import begins_in_s, left_s

SERVICE_S = 2.0


def simulated_start_s(ahead, free_in, service_s):
    workers = list(free_in)
    heapq.heapify(workers)
    for _ in range(ahead):
        heapq.heappush(workers, heapq.heappop(workers) + service_s)
    return workers[0]


@given(st.integers(0, 200), st.lists(st.floats(0, 50 * SERVICE_S), min_size=1, max_size=9))
def test_the_closed_form_matches_a_simulated_queue(ahead, free_in):
    assert begins_in_s(ahead, free_in, SERVICE_S) == pytest.approx(
        simulated_start_s(ahead, free_in, SERVICE_S)
    )


def test_without_workers_there_is_no_prediction():
    assert begins_in_s(0, [], SERVICE_S) is None


@pytest.mark.parametrize(
    ("elapsed_s", "step", "left"),
    [
        (0.5, 0, 1.5),
        (1.5, 6, 0.5),
        (3.0, 0, 0.0),  # longer than usual, without a step to extrapolate from
        (3.0, 4, 3.0),  # half of the steps took three seconds
        (3.0, 8, 0.0),
        (1.6, 1, 0.4 * 7 / 8 + 11.2 / 8),  # far slower than usual, as the first step shows
        (0.2, 4, 1.8),  # quick steps: what follows them may take the time
    ],
)
def test_a_slow_jobs_prediction_follows_its_own_progress(elapsed_s, step, left):
    assert left_s(elapsed_s, SERVICE_S, step, 8) == pytest.approx(left)


def test_cost_counts_the_work_and_one_is_the_default_clip():
    profile = PROFILES["motion-small"]
    default = {"frames": profile.default_frames, "size": profile.default_size}
    assert cost_units(profile, **default, steps=profile.steps) == 1
    assert cost_units(profile, frames=96, size=1024, steps=profile.steps) == 8
    teacher = PROFILES["motion-small-teacher"]
    assert cost_units(teacher, **default, steps=teacher.steps) == pytest.approx(45 / 4)
    assert cost_units(PROFILES["noop"], frames=8, size=64, steps=1) > 0
