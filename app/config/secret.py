"""Whether a secret looks as if somebody could guess it."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import log2

MIN_CHARS = 32
# 32 random hexadecimal digits measure 105 bits or more, "change-me" and its like 30 or less.
MIN_BITS = 96
MAKE_ONE = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'


def check_secret(secret: str) -> None:
    """Refuse a short or guessable secret.

    Raises:
        ValueError: one sentence for the operator, which does not contain the secret.
    """
    if len(secret) < MIN_CHARS:
        raise ValueError(f"needs at least {MIN_CHARS} characters; {MAKE_ONE}")
    if secret_bits(secret) < MIN_BITS:
        raise ValueError(f"looks guessable; {MAKE_ONE}")


def secret_bits(secret: str) -> float:
    """An upper bound of the bits that somebody must guess.

    Shannon's entropy of the characters, without repetitions of a whole part ("change-me-" four
    times) and without runs ("abcdef..."), whose steps are all alike. Words are not recognised.
    """
    part = secret[: _period(secret)]
    steps = [ord(after) - ord(before) for before, after in pairwise(part)]
    return len(part) * min(_entropy(part), _entropy(steps))


def _period(text: str) -> int:
    """The length of the shortest part that, repeated, begins with `text`."""
    return next(n for n in range(1, len(text) + 1) if text.startswith(text[n:]))


def _entropy(items: Sequence[object]) -> float:
    """Bits per item, from how often each occurs."""
    total = len(items)
    return sum(n / total * log2(total / n) for n in Counter(items).values())
