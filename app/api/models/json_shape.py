"""Bounds the shape of JSON before it is validated.

Validation reports every fault, and a body of 64 kB has room for thousands. Objects that have a name
twice are refused too: parsers differ in which value they take (RFC 8259, section 4).
"""

import json
from collections import Counter
from typing import NamedTuple

MAX_MEMBERS = 100  # of one object or array; the longest legal list has 64
MAX_DEPTH = 8  # no body nests deeper than 2


class BadShape(NamedTuple):
    """`path`: to the object or array, or to the name that occurs twice. `fault`: what is wrong."""

    path: tuple[str, ...]
    fault: str


class _Object(list[tuple[str, object]]):
    """An object's members, in order and with repeated names."""


def find_bad_shape(text: str) -> BadShape | None:
    """What is wrong with the shape of a JSON text. Raises ValueError if it is not JSON."""
    try:
        # Numbers do not matter here, and long ones are slow.
        tree = json.loads(
            text,
            object_pairs_hook=_Object,
            parse_int=_nothing,
            parse_float=_nothing,
            parse_constant=_nothing,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    found: list[tuple[tuple[str, ...], object]] = [((), tree)]
    while found:
        path, node = found.pop()
        if not isinstance(node, list):
            continue
        if len(path) >= MAX_DEPTH:
            return BadShape(path, "is nested too deeply")
        if len(node) > MAX_MEMBERS:
            return BadShape(path, f"has more than {MAX_MEMBERS} members")
        members = node if isinstance(node, _Object) else [(str(n), e) for n, e in enumerate(node)]
        [(name, times)] = Counter(name for name, _ in members).most_common(1) or [("", 0)]
        if times > 1:
            return BadShape((*path, name), "given twice")
        found += [((*path, name), member) for name, member in members]
    return None


def _nothing(_: str) -> None:
    return None
