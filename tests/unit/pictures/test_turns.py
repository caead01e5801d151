"""How decoder processes are shared among keys."""

import threading
import time

import pytest

from app.domain.errors import Transient
from app.pictures.turns import WAITING_PER_KEY, Turns


def refused(turns: Turns, key: str, timeout_s: float = 0.05) -> bool:
    try:
        with turns.turn(key, timeout_s):
            return False
    except Transient as error:
        assert error.code == "pictures_busy"
        return True


@pytest.mark.parametrize(("places", "most"), [(1, 1), (2, 1), (3, 2), (8, 7)])
def test_a_key_leaves_a_place_to_the_others(places, most):
    turns = Turns(places)
    held = [turns.turn("hog", 1) for _ in range(most)]
    for turn in held:
        turn.__enter__()
    assert refused(turns, "hog")
    assert refused(turns, "other") == (places == 1)
    held[0].__exit__(None, None, None)
    assert not refused(turns, "hog")


def test_keys_that_wait_take_turns():
    """Ten pictures of one key were first; the other's two wait for one and two of them."""
    turns, order, threads = Turns(1), [], []

    def work(key: str) -> None:
        with turns.turn(key, 10):
            order.append(key)

    with turns.turn("first", 1):
        for count, key in ((10, "hog"), (2, "other")):
            for _ in range(count):
                threads.append(threading.Thread(target=work, args=(key,)))
                threads[-1].start()
            time.sleep(0.2)
    for thread in threads:
        thread.join()
    assert order == ["hog", "other", "hog", "other", *["hog"] * 8]


def test_the_number_that_waits_is_bounded_for_each_key():
    turns, threads = Turns(1), []
    with turns.turn("first", 1):
        for _ in range(WAITING_PER_KEY):
            threads.append(threading.Thread(target=refused, args=(turns, "hog", 20)))
            threads[-1].start()
        time.sleep(0.3)
        began = time.monotonic()
        assert refused(turns, "hog", timeout_s=20)
        assert time.monotonic() - began < 5  # at once, not after its patience
        waiter = threading.Thread(target=refused, args=(turns, "other", 20))
        waiter.start()
        assert waiter.is_alive()
    for thread in (*threads, waiter):
        thread.join()
    assert not refused(turns, "hog")


def test_no_place_is_lost_when_patience_ends_as_one_becomes_free():
    turns = Turns(2)

    def hurry(key: int) -> None:
        for i in range(50):
            refused(turns, f"key {key}", timeout_s=0.0005 * (i % 3))

    threads = [threading.Thread(target=hurry, args=(key,)) for key in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with turns.turn("one", 1), turns.turn("two", 1):
        assert refused(turns, "three")
    turns.wait_until_none()
