"""Reading JSON that another process wrote, and that may be of any shape."""

from typing import Any

# What JSON of another shape raises in a reader: numbers beyond all bounds and endless nesting too.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)

MAX_COUNT = 2**53  # the integers up to here are floats, too


def count(value: Any) -> int:
    """A number of things. Raises one of UNREADABLE."""
    number = int(value)
    if not 0 <= number <= MAX_COUNT:
        raise ValueError("not a count")
    return number
