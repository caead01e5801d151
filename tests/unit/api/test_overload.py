"""How a process keeps few submits under way when more arrive than it can end."""

from contextlib import ExitStack

import pytest

from app.api.process.overload import BURST_S, CALM_S, LEAST, WAIT_S, OverloadControl
from app.domain.errors import Overloaded


class Load:
    """Submits at given moments, and an own clock."""

    def __init__(self):
        self.now = 100.0
        self.control = OverloadControl(lambda: self.now)
        self.held: list[ExitStack] = []

    def arrive(self, key="one") -> bool:
        stack = ExitStack()
        try:
            stack.enter_context(self.control.submit(key))
        except Overloaded as error:
            assert (error.code, error.status) == ("too_many_submits", 503)
            assert error.retry_after_s >= 1
            return False
        self.held.append(stack)
        return True

    def end_oldest(self) -> None:
        self.held.pop(0).close()

    def run(self, seconds: float, arriving: int, ending: int) -> int:
        """So many arrive and end each second; the number that was refused."""
        refused = 0
        for tick in range(int(seconds * 100)):
            self.now += 0.01
            for _ in range(_due(tick, arriving)):
                refused += not self.arrive()
            for _ in range(min(_due(tick, ending), len(self.held))):
                self.end_oldest()
        return refused


def _due(tick: int, per_s: int) -> int:
    return (tick + 1) * per_s // 100 - tick * per_s // 100


def test_nothing_is_refused_below_capacity():
    load = Load()
    assert load.run(60, arriving=50, ending=50) == 0


def test_a_burst_is_taken_whole():
    load = Load()
    assert all(load.arrive() for _ in range(60))
    assert load.run(1.5, arriving=0, ending=40) == 0
    assert load.run(10, arriving=20, ending=40) == 0


def test_under_overload_the_surplus_is_refused_and_those_under_way_are_few():
    load = Load()
    load.run(BURST_S + 5, arriving=100, ending=50)
    refused = load.run(60, arriving=100, ending=50)
    assert refused == pytest.approx(60 * 50, rel=0.02)
    assert len(load.held) <= max(LEAST, 50 * WAIT_S) + 1


def test_another_key_finds_its_share_beside_one_that_sends_too_much():
    load = Load()
    load.run(BURST_S + 5, arriving=100, ending=50)
    assert not all(load.arrive("one") for _ in range(3))
    assert load.arrive("two")


def test_what_ends_nothing_is_refused_too():
    load = Load()
    load.run(BURST_S + 1, arriving=10, ending=0)
    assert not load.arrive()
    assert load.arrive("two")


def test_the_next_burst_is_taken_once_it_was_calm():
    load = Load()
    load.run(BURST_S + 5, arriving=100, ending=50)
    load.run(CALM_S + 1, arriving=10, ending=50)
    assert all(load.arrive() for _ in range(40))


def test_a_submit_that_waits_for_a_picture_is_not_counted():
    load = Load()
    with ExitStack() as fetches:
        for _ in range(50):
            fetches.enter_context(load.control.submit("one"))
            fetches.enter_context(load.control.paused("one"))
        load.run(BURST_S + 5, arriving=20, ending=20)
        assert load.arrive()
