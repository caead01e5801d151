"""What a worker foresees: the end of a render, and how long a hand-over takes."""

import random
from math import inf

import pytest

from workers.gpu.foresight import LEAD_AT_FIRST_S, LEAD_MOST_S, Foresight

TICK_S = 0.005


def play(foresight, steps_s, tail_s=0.0, start=0.0):
    """Go through one render. Returns how much of it was left when it first seemed to fit into the
    lead; None if it never did."""
    render = foresight.begin(len(steps_s), start)
    end = start + sum(steps_s) + tail_s
    reports, left = [], None
    at = start
    for step_s in steps_s:
        at += step_s
        reports.append(at)
    now = start
    while now < end:
        while reports and reports[0] <= now:
            render.step(reports.pop(0))
        if left is None and render.remaining_s(now) <= foresight.lead_s:
            left = end - now
        now += TICK_S
    while reports:
        render.step(reports.pop(0))
    render.ended(end)
    return left


def learned(hand_over_s=0.08, renders=(), tail_s=0.0):
    foresight = Foresight()
    for _ in range(20):
        foresight.handed_over(hand_over_s)
    for steps_s in renders:
        play(foresight, steps_s, tail_s)
    return foresight


def test_nothing_is_foreseen_before_the_first_render():
    foresight = Foresight()
    assert foresight.lead_s == LEAD_AT_FIRST_S
    assert foresight.full_s(4) == inf
    assert play(foresight, [0.05] * 6) is None


@pytest.mark.parametrize("steps_s", [[0.05] * 6, [0.3], [1.0] * 30])
def test_a_regular_render_is_seen_to_end_one_lead_ahead(steps_s):
    foresight = learned(renders=[steps_s] * 4, tail_s=0.02)
    left = play(foresight, steps_s, tail_s=0.02)
    assert left == pytest.approx(foresight.lead_s, abs=3 * TICK_S)


def test_a_render_shorter_than_the_lead_is_about_to_end_from_its_start():
    foresight = learned(hand_over_s=0.2, renders=[[0.01] * 5] * 4)
    assert play(foresight, [0.01] * 5) == pytest.approx(0.05, abs=TICK_S)
    assert foresight.full_s(5) <= foresight.lead_s


def test_what_follows_the_last_step_counts():
    foresight = learned(renders=[[0.1] * 4] * 6, tail_s=1.0)
    assert play(foresight, [0.1] * 4, tail_s=1.0) < 0.15


@pytest.mark.parametrize(
    ("hand_over_s", "steps_s", "abreast"),
    [(0.07, [0.06] * 5, 1), (0.07, [0.01] * 5, 2), (0.4, [0.01] * 5, 2)],
    ids=["a long render", "a short one", "no more than two"],
)
def test_attempts_prepare_abreast_where_a_hand_over_outlasts_a_render(
    hand_over_s, steps_s, abreast
):
    assert Foresight().abreast == 1
    assert learned(hand_over_s, [steps_s] * 4).abreast == abreast


def test_the_lead_follows_hand_overs_and_has_a_bound():
    foresight = learned(hand_over_s=0.06)
    assert foresight.lead_s == pytest.approx(0.06, abs=0.01)
    for _ in range(30):
        foresight.handed_over(0.2)
    assert foresight.lead_s == pytest.approx(0.2, abs=0.05)
    for _ in range(30):
        foresight.handed_over(60.0)
    assert foresight.lead_s == LEAD_MOST_S


def test_a_step_that_hangs_never_seems_to_be_about_to_end():
    foresight = learned(renders=[[0.1] * 4] * 4)
    assert play(foresight, [0.1, 0.1, 20.0, 0.1]) is None


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.5])
def test_wild_step_times_neither_move_the_lead_nor_ask_for_jobs_long_ahead(sigma):
    draw = random.Random(5)
    foresight = learned()
    lead_s = foresight.lead_s
    left = []
    for _ in range(200):
        steps_s = [0.1 * draw.lognormvariate(0, sigma) for _ in range(6)]
        left.append(play(foresight, steps_s) or 0.0)
        assert foresight.lead_s == lead_s
    left.sort()
    assert left[len(left) // 2] < 2 * lead_s
    assert left[int(len(left) * 0.95)] < 0.5
