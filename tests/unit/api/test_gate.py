"""Waiting places: no owner takes all of them, and none is lost."""

from hypothesis import given
from hypothesis import strategies as st

from app.api.process.gate import GREED, Gate, Places


def fill(places: Places, owner: str) -> int:
    count = 0
    while places.take(owner):
        count += 1
    return count


@given(st.integers(1, 700))
def test_a_lone_owner_gets_four_fifths_and_the_next_one_still_finds_room(count):
    places = Places("waiting", count)
    alone = fill(places, "a")
    assert count * GREED / (GREED + 1) <= alone <= count * GREED / (GREED + 1) + 1
    if count > GREED:
        assert fill(places, "b") >= 1
    for _ in range(alone):
        places.give_back("a")
    assert fill(places, "a") > 0


def test_without_places_nobody_waits():
    assert not Places("waiting", 0).take("a")


def test_aside_gives_the_working_place_to_others_and_takes_one_again():
    gate = Gate(working=1, waiting=1, receiving=1)
    gate.enter()
    with gate.aside(gate.waiting, "a") as may_wait:
        assert may_wait
        gate.enter()
        with gate.aside(gate.waiting, "b") as refused:
            assert not refused
        gate.leave()
    gate.leave()
    gate.enter()
