"""Results of several threads, in order."""

import threading

import pytest

from workers.pipeline.in_order import in_order


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order(threads):
    assert list(in_order(lambda x: x * x, range(20), threads)) == [x * x for x in range(20)]


def test_as_many_are_made_at_once_as_there_are_threads():
    """Each of two waits for the other, so one thread would never end."""
    together = threading.Barrier(2, timeout=20)
    assert len(list(in_order(lambda _: together.wait(), range(8), 2))) == 8


def test_few_are_made_ahead_of_who_takes_them():
    made = []
    results = in_order(lambda x: made.append(x) or x, range(100), 2)
    assert next(results) == 0
    assert len(made) <= 3
    results.close()
    assert len(made) <= 3


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_comes_in_its_place_and_ends_the_work(threads):
    made = []

    def make(x):
        made.append(x)
        if x == 3:
            raise ValueError("three")
        return x

    results = in_order(make, range(100), threads)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert max(made) <= 5
