"""From a prompt's text to words in clauses, with negation marked."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from app.domain.prompt.lexicon import (
    ENTRIES,
    FUNCTION_WORDS,
    IDIOMS,
    LONGEST_IDIOM,
    STYLE_WORDS,
)

PAUSE = "pause"  # punctuation between words
STOP = "stop-sentence"
_APOSTROPHES = "'’ʼ`"
_BREAKS = frozenset([PAUSE, STOP, "and", "or", "nor", "but"])
_STRENGTHS = frozenset(["gentle", "strong"])
# Entries that say how, not what moves.
_DIRECTIONS = frozenset(
    [
        *("left", "right", "up", "down", "in", "out", "back", "away", "closer", "around"),
        *("clockwise", "anticlockwise", "up-down", "in-out", "side-to-side"),
    ]
)
_NOT_MOTIONS = _DIRECTIONS | _STRENGTHS | _BREAKS | {"camera", "water", "flag", "not"}


@dataclass(frozen=True)
class Word:
    """One word, or an idiom. `entry`: its entry in the lexicon, "" if it has none."""

    written: tuple[str, ...]
    plain: str
    entry: str
    negated: bool = False

    @property
    def names_motion(self) -> bool:
        return bool(self.entry) and self.entry not in _NOT_MOTIONS

    @property
    def is_thing(self) -> bool:
        """Whether it may be what moves: a word that says neither how nor in what style."""
        if self.entry:
            return self.entry in ("water", "sea", "flag", "wind")
        return self.plain not in FUNCTION_WORDS | STYLE_WORDS


def clauses(prompt: str) -> list[list[Word]]:
    """The prompt's clauses, without function words. Negated words are marked."""
    found: list[list[Word]] = [[]]
    for word in _with_negation(_joined(list(_words(prompt)))):
        if word.entry in _BREAKS:
            found.append([])
        elif word.entry or word.plain not in FUNCTION_WORDS:
            found[-1].append(word)
    return [clause for clause in found if clause]


def _words(prompt: str) -> Iterator[Word]:
    for kind, run in groupby(prompt, _kind):
        text = "".join(run).strip(_APOSTROPHES)
        if kind == "word" and text:
            plain = unicodedata.normalize("NFKD", text).casefold()
            plain = "".join(c for c in plain if unicodedata.category(c)[0] in "LN")
            yield Word((text,), plain, ENTRIES.get(plain, ""))
        elif kind in (PAUSE, STOP):
            yield Word((), "", kind)


def _kind(char: str) -> str:
    if char in _APOSTROPHES or unicodedata.category(char) in ("So", "Cf"):
        return "word"  # don't, emoji
    if char in ".!?;\n\r。！？；":
        return STOP
    if char in ',:()[]"/–—、，：':
        return PAUSE
    return "word" if unicodedata.category(char)[0] in "LMN" else "gap"


def _joined(words: list[Word]) -> list[Word]:
    """The words with idioms as one word each, the longest first."""
    found: list[Word] = []
    at = 0
    while at < len(words):
        for length in range(min(LONGEST_IDIOM, len(words) - at), 1, -1):
            part = words[at : at + length]
            entry = IDIOMS.get(tuple(word.entry or word.plain for word in part))
            if entry is None:
                entry = IDIOMS.get(tuple(word.plain for word in part))
            if entry is not None:
                written = tuple(text for word in part for text in word.written)
                plain = " ".join(word.plain for word in part)
                found.append(Word(written, plain, entry))
                at += length
                break
        else:
            found.append(words[at])
            at += 1
    return found


def _with_negation(words: list[Word]) -> Iterator[Word]:
    """Mark the words that "no", "without", "don't" or "stop" refuses.

    It refuses the rest of its clause, and goes on over "or". Over "and" and over commas it goes on
    only to a bare motion: "no zoom and sway", but not "no zoom and pan left".
    """
    negated = False
    for at, word in enumerate(words):
        if word.entry in ("not", "nor", "stop"):
            negated = True
        elif word.entry in (STOP, "but"):
            negated = False
        elif word.entry == "and":
            negated = negated and _is_bare_motion(words[at + 1 :])
        elif word.entry == PAUSE:
            negated = negated and _goes_on_to_or(words[at + 1 :])
        if word.entry == "nor":  # it also separates
            yield replace(word, negated=True)
        elif word.entry not in ("not", "stop"):
            yield replace(word, negated=negated)


def _item(words: list[Word]) -> list[Word]:
    """The words up to the next break, without function words."""
    item: list[Word] = []
    for word in words:
        if word.entry in _BREAKS:
            break
        if word.entry or word.plain not in FUNCTION_WORDS:
            item.append(word)
    return item


def _is_bare_motion(words: list[Word]) -> bool:
    item = _item(words)
    return bool(item) and item[0].names_motion and not {w.entry for w in item} & _DIRECTIONS


def _goes_on_to_or(words: list[Word]) -> bool:
    """Whether a list of motions follows that ends with "or": "no zoom, pan or sway"."""
    for word in words:
        if word.entry in ("or", "nor"):
            return True
        if word.entry == PAUSE or word.plain in FUNCTION_WORDS:
            continue
        if not word.names_motion:
            return False
    return False
