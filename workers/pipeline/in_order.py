"""Results made by several threads, taken in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(make: Callable[[T], R], each: Iterable[T], threads: int) -> Iterator[R]:
    """make(x) of each x, in order, made by `threads` threads at a time.

    At most `threads` results are made before they are taken. What `make` raises is raised in its
    result's place. An iterator that is closed early waits for the calls that have begun.
    """
    if threads == 1:
        yield from map(make, each)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="in-order") as pool:
        try:
            for x in each:
                waiting.append(pool.submit(make, x))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
