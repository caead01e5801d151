"""From a prompt's text to words in clauses, with negation marked."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from app.domain.prompt.languages.english import ENGLISH
from app.domain.prompt.languages.german import GERMAN
from app.domain.prompt.languages.table import fold
from app.domain.prompt.lexicon import (
    IDIOMS,
    LONGEST_IDIOM,
    LONGEST_PHRASE,
    PHRASES,
    counts,
    guests_of,
    language_of,
    look_up,
)
from app.domain.prompt.unspaced import is_noun_script, is_unspaced, is_verb_last, segments

PAUSE = "pause"  # punctuation between words
STOP = "stop-sentence"
LONGEST_CLAUSE = 40  # words; a longer one is cut, so that reading takes linear time
_APOSTROPHES = "'’ʼ`"
# What is elided before a vowel in French: l'eau, d'eau, n'est.
_ELIDED = frozenset(["l", "d", "n", "s", "c", "j", "m", "t", "qu", "jusqu"])
_BREAKS = frozenset([PAUSE, STOP, "and", "or", "nor", "but"])
_COLONS = frozenset(":：")
_LABELS = (["camera"], ["subject"], ["background"])
_STRENGTHS = frozenset(["gentle", "strong"])
# Entries that say how, not what moves.
_DIRECTIONS = frozenset(
    [
        *("left", "right", "up", "down", "in", "out", "back", "away", "closer", "around"),
        *("clockwise", "anticlockwise", "up-down", "in-out", "side-to-side", "forward"),
        "at-camera",
    ]
)
# Entries of things that may move.
NOUNS = frozenset(
    [
        *("water", "sea", "hair", "cloth", "flag", "smoke", "foliage", "clouds", "fire", "snow"),
        *("rain", "wind", "head", "limb", "mouth", "person", "background", "subject", "thing"),
        "everything",
    ]
)
_NEGATORS = frozenset(["not", "nor", "stop", "not-clause", "not-before"])
_NOT_MOTIONS = (
    _DIRECTIONS | _STRENGTHS | _BREAKS | _NEGATORS | NOUNS | {"camera", "only", "only-before"}
)
_ARTICLES = """
    the a an my your his her its our their el la los las un una su der die das den dem ein eine
    le les une son sa ses o os as um uma seu sua
"""
_DETERMINERS = frozenset(_ARTICLES.split())


@dataclass(frozen=True)
class Word:
    """One word, or an idiom. `entry`: its entry in the lexicon, "" if it has none.

    A word of several entries is several words with the same `tokens`.
    """

    written: tuple[str, ...]
    plain: str
    entry: str
    tokens: tuple[int, ...] = ()  # where it stands in the prompt
    function: bool = False
    style: bool = False
    named: bool = False  # after "the" or its like
    verb_last: bool = False  # of a language, or in a form, that has the verb behind its object
    negated: bool = False

    @property
    def names_motion(self) -> bool:
        return bool(self.entry) and self.entry not in _NOT_MOTIONS

    @property
    def is_thing(self) -> bool:
        """Whether it may be what moves: a word that says neither how nor in what style."""
        if self.entry:
            return self.entry in NOUNS
        return not (self.function or self.style)


def clauses(prompt: str) -> list[list[Word]]:
    """The prompt's clauses, without function words. Negated words are marked."""
    found: list[list[Word]] = [[]]
    who: list[Word] = []  # "she smiles and turns"
    for word in _with_negation(_joined(list(_words(prompt)))):
        if word.plain in _COLONS and [each.entry for each in found[-1]] in _LABELS:
            continue  # "Camera: slow push in"
        if word.entry in _BREAKS:
            who = _who(found[-1]) if word.entry == "and" else []
        if who and word.names_motion and not found[-1]:
            found[-1] += who
        if word.entry in _BREAKS or len(found[-1]) == LONGEST_CLAUSE:
            found.append([])
        if word.entry == "only" and not word.negated:
            if [each.entry for each in found[-1] if not each.negated] != ["move"]:
                found.append([])  # but "move only the water" is one clause
            found[-1].append(word)
        elif word.entry not in _BREAKS and (word.entry or not word.function):
            found[-1].append(word)
    return [clause for clause in found if clause]


def _who(clause: Sequence[Word]) -> list[Word]:
    """The person that a clause speaks of, to be what the next one speaks of after "and"."""
    people = [word for word in clause if word.entry == "person"]
    return [replace(word, tokens=(), written=()) for word in people[:1]]


def _words(prompt: str) -> Iterator[Word]:
    """The words of the prompt, with breaks between them."""
    number = 0
    every = list(_tokens(prompt))
    overall = counts(fold(text) for kind, text in every if kind == "word")
    for is_break, run in groupby(every, lambda token: token[0] in (PAUSE, STOP)):
        if is_break:
            yield from (Word((), mark, kind) for kind, mark in run)
            continue
        part = list(run)
        japanese = any("\u3040" <= c <= "\u30ff" for kind, text in part for c in text)
        for unspaced, tokens in groupby(part, lambda token: token[0] == "unspaced"):
            texts = [text for _, text in tokens]
            if unspaced:
                for text in texts:
                    for written, entries, function in segments(text, japanese=japanese):
                        plain = fold(written)
                        named = any(map(is_noun_script, plain))
                        yield from _of(
                            written,
                            plain,
                            entries,
                            number,
                            function=function,
                            style=not (entries or named),
                            named=named,
                            verb_last=is_verb_last(plain),
                        )
                        number += 1
            else:
                yield from _spaced(texts, number, overall)
                number += len(texts)


def _tokens(prompt: str) -> Iterator[tuple[str, str]]:
    """Kind and text of what stands between spaces, and of punctuation."""
    for kind, run in groupby(prompt, _kind):
        if kind in (PAUSE, STOP):
            yield kind, next(run)
        elif kind == "word":
            for part in _unelided("".join(run).strip(_APOSTROPHES)):
                yield kind, part
        elif kind == "unspaced":
            yield kind, "".join(run)


def _unelided(text: str) -> Iterator[str]:
    for mark in _APOSTROPHES:
        first, found, rest = text.partition(mark)
        if found and first.lower() in _ELIDED and len(rest.strip(_APOSTROPHES)) > 1:
            yield from (first, rest.strip(_APOSTROPHES))
            return
    if text:
        yield text


def _spaced(texts: Sequence[str], number: int, overall: Sequence[float]) -> Iterator[Word]:
    """Words of languages with spaces. `number` is that of the first."""
    plain = [fold(text) for text in texts]
    language = language_of(plain, overall)
    guests = guests_of(language, plain)
    at, named = 0, False
    while at < len(texts):
        length, entries = _phrase(plain, at)
        if length:
            tokens = tuple(range(number + at, number + at + length))
            written = tuple(texts[at : at + length])
            for entry in entries or ("",):
                said = " ".join(plain[at : at + length])
                yield Word(written, said, entry, tokens, function=not entries)
            at, named = at + length, False
            continue
        entries, table = look_up(plain[at], language, guests)
        if entries:
            named = named and not set(entries) - NOUNS - _STRENGTHS
        yield from _of(
            texts[at],
            plain[at],
            entries,
            number + at,
            function=plain[at] in table.function_words,
            style=plain[at] in table.style_words or plain[at] in ENGLISH.style_words,
            named=named,
            verb_last=table is GERMAN and plain[at].endswith("n"),
        )
        named = named or (plain[at] in _DETERMINERS and plain[at] in table.function_words)
        at += 1


def _phrase(plain: Sequence[str], at: int) -> tuple[int, tuple[str, ...]]:
    """The longest phrase of a language other than English that begins here: length, entries."""
    for length in range(min(LONGEST_PHRASE, len(plain) - at), 1, -1):
        entries = PHRASES.get(tuple(plain[at : at + length]))
        if entries is not None:
            return length, entries
    return 0, ()


def _of(
    written: str,
    plain: str,
    entries: tuple[str, ...],
    number: int,
    *,
    function: bool,
    style: bool = False,
    named: bool = False,
    verb_last: bool = False,
) -> Iterator[Word]:
    for entry in entries or ("",):
        yield Word((written,), plain, entry, (number,), function, style, named, verb_last)


def _kind(char: str) -> str:
    if char in _APOSTROPHES or unicodedata.category(char) in ("So", "Cf"):
        return "word"  # don't, emoji
    if char in ".!?;\n\r。！？；｡":
        return STOP
    if char in ',:()[]"/|–—、，：（）「」『』【】“”«»･・':
        return PAUSE
    if is_unspaced(char):
        return "unspaced"
    return "word" if unicodedata.category(char)[0] in "LMN" else "gap"


def _joined(words: list[Word]) -> list[Word]:
    """The words with idioms as one word each, the longest first."""
    found: list[Word] = []
    at = 0
    while at < len(words):
        for length in range(min(LONGEST_IDIOM, len(words) - at), 1, -1):
            part = words[at : at + length]
            entries = IDIOMS.get(tuple(word.plain for word in part))
            if entries is None:
                entries = IDIOMS.get(tuple(word.entry or word.plain for word in part))
            if entries is not None:
                found += _idiom(part, entries)
                at += length
                break
        else:
            found.append(words[at])
            at += 1
    return found


def _idiom(part: Sequence[Word], entries: tuple[str, ...]) -> Iterator[Word]:
    tokens = tuple(dict.fromkeys(number for word in part for number in word.tokens))
    texts = {
        number: text
        for word in part
        for number, text in zip(word.tokens, word.written, strict=True)
    }
    written = tuple(texts[number] for number in tokens)
    plain = " ".join(word.plain for word in part)
    for entry in entries or ("",):
        yield Word(written, plain, entry, tokens)


def _with_negation(words: Sequence[Word]) -> Iterator[Word]:
    """Mark the words that "no", "without", "don't" or "stop" refuses.

    It refuses the rest of its clause, and goes on over "or". Over "and" and over commas it goes on
    only to a bare motion: "no zoom and sway", but not "no zoom and pan left". German "nicht" and
    French "pas" also refuse what stands before them in their clause; in Japanese nothing else.
    """
    before = _negated_from_behind(words)
    negated = False
    for at, word in enumerate(words):
        if word.entry in ("not", "nor", "stop", "not-clause"):
            negated = True
        elif word.entry in (STOP, "but", "only"):
            negated = False
        elif word.entry == "and":
            negated = negated and _is_bare_motion(words, at + 1)
        elif word.entry == PAUSE:
            negated = negated and _goes_on_to_or(words, at + 1)
        if word.entry == "not-before":  # it also separates
            yield replace(word, entry=PAUSE)
        elif word.entry == "nor":  # likewise
            yield replace(word, negated=True)
        elif word.entry not in ("not", "stop", "not-clause"):
            yield replace(word, negated=True) if negated or at in before else word


def _negated_from_behind(words: Sequence[Word]) -> set[int]:
    """The positions of the words that a negator behind them refuses."""
    found: set[int] = set()
    start = 0
    for at, word in enumerate(words):
        if word.entry in ("not-clause", "not-before"):
            found.update(range(start, at))
        if word.entry in _BREAKS or word.entry in ("only", "not-clause", "not-before"):
            start = at + 1
    return found


def _item(words: Sequence[Word], at: int) -> list[Word]:
    """The words up to the next break, without function words."""
    item: list[Word] = []
    for word in words[at : at + LONGEST_CLAUSE]:
        if word.entry in _BREAKS:
            break
        if word.entry or not word.function:
            item.append(word)
    return item


def _is_bare_motion(words: Sequence[Word], at: int) -> bool:
    item = _item(words, at)
    return bool(item) and item[0].names_motion and not {w.entry for w in item} & _DIRECTIONS


def _goes_on_to_or(words: Sequence[Word], at: int) -> bool:
    """Whether a list of motions follows that ends with "or": "no zoom, pan or sway"."""
    for word in words[at : at + LONGEST_CLAUSE]:
        if word.entry in ("or", "nor"):
            return True
        if word.entry == PAUSE or word.function:
            continue
        if not word.names_motion:
            return False
    return False
